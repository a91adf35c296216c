"""hpsearch against what a user would write instead, on the same work: time to a target, trials an hour, memory.

    python benchmarks/versus.py run TRAINING_SET.npz FOLDER OUT.json [--seeds 0,1,2] [--systems a,b,c,d,e]
    python benchmarks/versus.py show OUT.json

Systems, each in processes of its own and in turn, seed after seed:

    a           a plain Optuna loop: TPE, median pruning            b   KerasTuner's Hyperband, for (a)'s epochs
    c           hpsearch with (a)'s recipe and (a)'s trials, warm processes and prefix cache off     d   the same, on
    e           hpsearch as it ships: `prepare` and `run` without options, for as long as the longer of (a) and (b)
    d-cold      (d) with --fresh-workers: its prefix cache alone    d-no-cache   (d) with --prefix-cache off
    d-eigen     (d) with TF_ENABLE_ONEDNN_OPTS=0                    a-onednn     (a) with TF_ENABLE_ONEDNN_OPTS=1

All others have the kernels that they ship with: hpsearch oneDNN's, a plain loop those of TensorFlow's default, which
depends on the processor.

The work: 3,000 images drawn from TRAINING_SET.npz by the seed, MobileNetV2 0.35 with ImageNet weights, frozen share,
dropout, learning rate and optimizer to be found, 12 trials of at most 6 epochs at batch 32. A system's best model so
far is the one with the highest validation score of its own (macro-F1; of (e) its default objective), looked at after
each epoch; one evaluator scores it on 3,000 other images, the same for all. The target is the higher of the final
scores of (a) and (b), medians over seeds. A system's time counts from the start of its first process (`prepare` and
imports included) until the best model so far reaches the target there; one that never does counts its whole run.
Start-up: from a trial's start to its first epoch's end, less its quickest later epoch; of the first training step each
system has its own clock, hpsearch's without starting the process and building the network.

Where the recipe of (c) and (d) differs from (a)'s: the program splits 69/30/1 (a class must be on three sides),
drops an epoch's last part of a batch, freezes up to the nearest of six cut points, and ends a trial that has collapsed
to one class. It prunes by (a)'s rule, and goes through the trials that (a)'s sampler proposed for this seed, so that
luck in proposing does not decide. (b) has its own trials: two rounds of 10 trainings, 36 epochs a round, as many as the
12 trials of 6 epochs that (a) prunes among.

Resumable: a (system, seed) that OUT.json has is left out. FOLDER takes the images and what the systems write, about a
gigabyte; the images stay. KerasTuner is a development dependency.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ranking import machine
from versus_parts.rows import TARGET_SETTERS, new_bests, row_of, shares, summaries, target_of
from versus_parts.systems import HERE, SYSTEMS, Measured, System, Task, measure

FOLD_SEED = 2026
REAL_IMAGES = 11_959  # of the blood cells; the rows beyond are planted copies of two pictures
LONGER = 1.5
"""A run may last so many times as long as the longest before it."""
DEFAULT_SYSTEMS = "a,b,c,d,e"
SETTINGS = ("images", "fold", "trials", "rows")


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file share."""
    with open(options.training_set, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Files from before there was a choice have no weights in their settings.
    weights = {} if options.weights == "imagenet" else {"weights": options.weights}
    return {"training_set_sha256": digest} | {key: getattr(options, key) for key in SETTINGS} | weights


def write_images(folder: Path, seed: int, options: argparse.Namespace) -> tuple[Path, Path]:
    """The source that all systems get for this seed, and the fold, which no seed's source touches."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"source-{options.images}-of-seed-{seed}.npz"
    fold = folder / f"fold-{options.fold}.npz"
    if source.exists() and fold.exists():
        return source, fold
    with np.load(options.training_set, allow_pickle=False) as archive:
        images, labels = (archive[key][: options.rows] for key in ("images", "labels"))
    order = np.random.default_rng(FOLD_SEED).permutation(len(images))
    if options.fold + options.images > len(order):
        raise SystemExit(
            f"`--fold` + `--images` <= {len(order)} images must hold, but they are {options.fold} and {options.images}"
        )
    drawn = np.random.default_rng(seed).permutation(order[options.fold :])[: options.images]
    for path, rows in ((fold, order[: options.fold]), (source, drawn)):
        partial = path.with_name(f"partial.{path.name}")
        np.savez(partial, images=images[rows], labels=labels[rows].ravel())
        os.replace(partial, path)
    return source, fold


def held_out_curve(system: System, measured: Measured, fold: Path, log: Path) -> list[dict[str, float]]:
    """Each new best of the run: when it was there, its own value, and its scores on the fold."""
    bests = new_bests(measured.course.snapshots)
    if not bests:
        return []
    request = {"network": system.network, "weights": [str(one.weights.resolve()) for one in bests]}
    command = [sys.executable, str(HERE / "score.py"), str(fold)]
    with open(log, "ab") as errors:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), stdout=subprocess.PIPE, stderr=errors, check=True
        )
    scores = json.loads(done.stdout)
    return [{"time_s": one.time_s, "value": one.value} | score for one, score in zip(bests, scores, strict=True)]


def budget_of(rows: list[dict[str, Any]], seed: int, given_s: float | None) -> float:
    peers = [row["total_s"] for row in rows if row["seed"] == seed and row["system"] in TARGET_SETTERS]
    if given_s is None and not peers:
        raise SystemExit("system e runs as long as a and b of its seed: run these before it, or give --budget SECONDS")
    return given_s if given_s is not None else float(max(peers))


def proposals_for(system: System, seed: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hyperparameters that this system is to go through; none when it searches by itself."""
    if system.follows is None:
        return []
    for row in rows:
        if (row["system"], row["seed"]) == (system.follows, seed):
            return list(row["proposed"])
    raise SystemExit(f"{system.title} goes through the trials of system {system.follows}: run that before it")


def versions() -> dict[str, str]:
    found = {name: version(name) for name in ("tensorflow", "keras", "optuna", "keras-tuner", "numpy", "hpsearch")}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return found | {"commit": commit.stdout.strip()}


def run_one(name: str, seed: int, report: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The row of one system and seed."""
    system, folder = SYSTEMS[name], options.folder / f"{name}-{seed}"
    budget_s = budget_of(report["rows"], seed, options.budget) if system.as_it_ships else None
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    folder.mkdir(parents=True)
    load = os.getloadavg()[0]  # what else the machine does
    images = options.folder / f"images-{report['settings']['training_set_sha256'][:8]}-{options.rows}"
    source, fold = write_images(images, seed, options)
    log = folder / "log.txt"
    try:
        proposed = proposals_for(system, seed, report["rows"])
        measured = measure(
            system, Task(source.resolve(), folder.resolve(), seed, options.trials, options.weights, budget_s, proposed)
        )
        curve = held_out_curve(system, measured, fold, log)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"system {name}, seed {seed} ended with {error.returncode}: see {log}") from error
    row = {"system": name, "title": system.title, "seed": seed}
    row |= row_of(measured.course, measured.total_s, measured.peak_memory_mb) | measured.extra
    row |= {"curve": curve, "date": datetime.now(UTC).date().isoformat()}
    row |= {"load_before": load, "machine": machine(), "versions": versions()}
    if row.get("best_not_seen"):
        print(f"warning: the best epoch of {name}, seed {seed} was gone before its weights were kept", flush=True)
    shutil.rmtree(folder)
    return row


def run(options: argparse.Namespace) -> None:
    """Adds each row that OUT does not have yet."""
    settings = settings_of(options)
    report = json.loads(options.out.read_text()) if options.out.exists() else {"settings": settings, "rows": []}
    if report["settings"] != settings:
        raise SystemExit(f"{options.out} has rows of other settings ({report['settings']}): name another file")
    done = {(row["system"], row["seed"]) for row in report["rows"]}
    began, longest_s = time.monotonic(), 0.0
    for seed in options.seeds:
        for name in options.systems:
            if (name, seed) in done:
                continue
            before = time.monotonic()
            if before - began + LONGER * longest_s > 60 * options.minutes:
                print(f"{name}, seed {seed} is left out: it might not end within {options.minutes:g} minutes")
                continue
            row = run_one(name, seed, report, options)
            report["rows"].append(row)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(report, indent=1) + "\n")
            longest_s = max(longest_s, time.monotonic() - before)
            final = row["curve"][-1]["macro_f1"] if row["curve"] else 0.0
            print(f"{name}, seed {seed}: {final:.4f} in {row['total_s']:.0f} s, {row['trials']} trials", flush=True)
    show(options.out)


COLUMNS = (
    ("score", "F1", ".4f"),
    ("time_s", "to target", ".0f"),
    ("speed", "times (a)", ".2f"),
    ("total_s", "in all", ".0f"),
    ("trials_per_hour", "trials/h", ".1f"),
    ("images_per_s", "images/s", ".0f"),
    ("images_per_s_of_all", "of all", ".0f"),
    ("start_up_s", "start-up", ".1f"),
    ("peak_memory_mb", "MB", ".0f"),
)


def show(out: Path) -> None:
    """The table: medians over seeds, seconds; `of all`: images a second of the whole run; and each feature's share."""
    rows = json.loads(out.read_text())["rows"]
    found, target = summaries(rows), target_of(rows)
    print("no target: there is neither (a) nor (b)" if target is None else f"target: {target:.4f} macro-F1")
    print(f"{'system':<40}" + "".join(f"{title:>11}" for _, title, _ in COLUMNS) + "    reached")
    for one in found:
        title = f"{one['system']:<11}{SYSTEMS[one['system']].title}"
        print(f"{title:<40}" + "".join(_cell(one[key], form) for key, _, form in COLUMNS), end="")
        print(f"{one['reached']:>6} of {one['runs']}")
    for share in shares(rows):
        print(
            f"(d) without {share['without']}: {share['to_target']:.2f} times as long to the target, "
            f"{share['whole']:.2f} times in all, {share['seeds']} seeds"
        )


def _cell(value: float | None, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>11}"


def _systems(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SYSTEMS):
        raise argparse.ArgumentTypeError(f"unknown system {min(unknown)!r}: there are {', '.join(SYSTEMS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    for name in ("training_set", "folder", "out"):
        running.add_argument(name, type=Path)
    running.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default="0,1,2")
    running.add_argument("--systems", type=_systems, default=DEFAULT_SYSTEMS)
    for name, value in (("trials", 12), ("images", 3000), ("fold", 3000), ("rows", REAL_IMAGES)):
        running.add_argument(f"--{name}", type=int, default=value)
    running.add_argument("--weights", default="imagenet", help="imagenet or a weights file (default: %(default)s)")
    running.add_argument("--budget", type=float, help="seconds of e; the longer of a and b where it is not given")
    running.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing that might last longer")
    commands.add_parser("show").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    else:
        show(options.out)


if __name__ == "__main__":
    main()

"""Compare hpsearch with what a user would write instead, on the same work: time to a target score, trials/h, memory.

    python benchmarks/versus.py run TRAINING_SET.npz FOLDER OUT.json [--seeds 0,1,2] [--systems a,b,c,d,e]
    python benchmarks/versus.py show OUT.json

`run` runs each system for each seed, one after the other, each in processes of its own:

    a           plain Optuna loop: TPE sampler, median pruner
    b           KerasTuner's Hyperband, with as many epochs as (a)
    c           hpsearch with (a)'s recipe and (a)'s trials, without warm processes and prefix cache
    d           the same, with both
    e           hpsearch as it ships: `prepare` and `run` with their defaults, for as long as the longer of (a) and (b)
    d-cold      (d) with --fresh-workers: without warm processes
    d-no-cache  (d) with --prefix-cache off
    d-eigen     (d) with TF_ENABLE_ONEDNN_OPTS=0
    a-onednn    (a) with TF_ENABLE_ONEDNN_OPTS=1

The others use the kernels that they ship with: hpsearch oneDNN's, (a) and (b) TensorFlow's default, which depends on
the processor.

The work: 3,000 images, drawn from TRAINING_SET.npz by the seed; MobileNetV2 0.35 with ImageNet weights; 12 trials of at
most 6 epochs, batch size 32, that search frozen fraction, dropout, learning rate and optimizer.

The target: after each epoch, a system's best model so far is the one with its own highest validation score (macro-F1;
for (e) its default objective). One evaluator scores these models on 3,000 other images, the same for all systems. The
target is the higher of the final scores of (a) and (b), medians over seeds. A system's time runs from the start of its
first process, `prepare` and imports included, until its best model so far reaches the target on these images. A run
that never reaches it counts whole.

Start-up of a trial: the time from its start to the end of its first epoch, less the shortest of its later epochs. The
time to the first training step is measured by each system's own clock; hpsearch's does not include starting the process
and building the network.

The recipe of (c) and (d) differs from (a)'s in four points. hpsearch splits 69/30/1, because each class must be in all
three parts. It drops an epoch's last incomplete batch. It freezes up to the nearest of six cut points. It ends a trial
that predicts one class only. It uses (a)'s pruner and goes through the trials that (a)'s sampler suggested for the same
seed, so that lucky suggestions do not decide the comparison. (b) has its own trials: two rounds of 10 trainings with 36
epochs a round, as many epochs as (a)'s 12 trials of 6 before pruning.

`run` skips each (system, seed) that OUT.json already has. FOLDER takes the images, which stay, and what the systems
write: about a gigabyte. KerasTuner is a development dependency.
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
REAL_IMAGES = 11_959  # images of blood cells; the rows after them are planted copies of two pictures
LONGER = 1.5
"""How much longer than the longest earlier run the next one may last, when `--minutes` is checked."""
DEFAULT_SYSTEMS = "a,b,c,d,e"
SETTINGS = ("images", "fold", "trials", "rows")


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that all rows of a file share."""
    with open(options.training_set, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Files from before there was a choice have no weights in their settings.
    weights = {} if options.weights == "imagenet" else {"weights": options.weights}
    return {"training_set_sha256": digest} | {key: getattr(options, key) for key in SETTINGS} | weights


def write_images(folder: Path, seed: int, options: argparse.Namespace) -> tuple[Path, Path]:
    """Write the source that all systems get for this seed, and the fold, whose images are in no source; return both."""
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
            f"--fold plus --images may be {len(order)} at most, but they are {options.fold} and {options.images}"
        )
    drawn = np.random.default_rng(seed).permutation(order[options.fold :])[: options.images]
    for path, rows in ((fold, order[: options.fold]), (source, drawn)):
        partial = path.with_name(f"partial.{path.name}")
        np.savez(partial, images=images[rows], labels=labels[rows].ravel())
        os.replace(partial, path)
    return source, fold


def held_out_curve(system: System, measured: Measured, fold: Path, log: Path) -> list[dict[str, float]]:
    """Return a point for each new best model of the run: its time, the system's own value, its scores on the fold."""
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
    """Return the seconds that system e may run: the given ones, or those of the longer of (a) and (b)."""
    peers = [row["total_s"] for row in rows if row["seed"] == seed and row["system"] in TARGET_SETTERS]
    if given_s is None and not peers:
        raise SystemExit("system e runs as long as a and b of its seed: run these first, or give --budget SECONDS")
    return given_s if given_s is not None else float(max(peers))


def proposals_for(system: System, seed: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the hyperparameters that this system must try; an empty list if it searches by itself."""
    if system.follows is None:
        return []
    for row in rows:
        if (row["system"], row["seed"]) == (system.follows, seed):
            return list(row["proposed"])
    raise SystemExit(f"{system.title} goes through the trials of system {system.follows}: run that first")


def versions() -> dict[str, str]:
    found = {name: version(name) for name in ("tensorflow", "keras", "optuna", "keras-tuner", "numpy", "hpsearch")}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return found | {"commit": commit.stdout.strip()}


def run_one(name: str, seed: int, report: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run one system with one seed; return its row."""
    system, folder = SYSTEMS[name], options.folder / f"{name}-{seed}"
    budget_s = budget_of(report["rows"], seed, options.budget) if system.as_it_ships else None
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted run
    folder.mkdir(parents=True)
    load = os.getloadavg()[0]  # shows other work on the machine
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
        print(
            f"warning: the best epoch's weights of {name}, seed {seed}, were not kept in time",
            flush=True,
        )
    shutil.rmtree(folder)
    return row


def run(options: argparse.Namespace) -> None:
    """Run each system and seed that OUT does not have yet, and add its row."""
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
                print(f"{name}, seed {seed} is skipped: it may not end within --minutes {options.minutes:g}")
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
    ("images_per_s_of_all", "overall", ".0f"),
    ("start_up_s", "start-up", ".1f"),
    ("peak_memory_mb", "MB", ".0f"),
)


def show(out: Path) -> None:
    """Print the table, medians over seeds, and what each feature contributes.

    Times are in seconds. `images/s` counts the time of training alone, `overall` that of the whole run.
    """
    rows = json.loads(out.read_text())["rows"]
    found, target = summaries(rows), target_of(rows)
    print("no target without (a) or (b)" if target is None else f"target: {target:.4f} macro-F1")
    print(f"{'system':<40}" + "".join(f"{title:>11}" for _, title, _ in COLUMNS) + "    reached")
    for one in found:
        title = f"{one['system']:<11}{SYSTEMS[one['system']].title}"
        print(f"{title:<40}" + "".join(_cell(one[key], form) for key, _, form in COLUMNS), end="")
        print(f"{one['reached']:>6} of {one['runs']}")
    for share in shares(rows):
        print(
            f"(d) without {share['without']}: {share['to_target']:.2f} times as long to the target, "
            f"{share['whole']:.2f} times in all (median of {share['seeds']} seeds)"
        )


def _cell(value: float | None, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>11}"


def _seeds(text: str) -> list[int]:
    return [int(seed) for seed in text.split(",")]


def _systems(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SYSTEMS):
        raise argparse.ArgumentTypeError(f"unknown system {min(unknown)!r}: there are {', '.join(SYSTEMS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the systems and seeds that OUT does not have yet")
    for name in ("training_set", "folder", "out"):
        running.add_argument(name, type=Path)
    running.add_argument("--seeds", type=_seeds, default="0,1,2", help="default: %(default)s")
    running.add_argument("--systems", type=_systems, default=DEFAULT_SYSTEMS, help="default: %(default)s")
    for name, value, what in (
        ("trials", 12, "trials of (a), (c), (d); (b) gets as many epochs"),
        ("images", 3000, "images that systems get"),
        ("fold", 3000, "images that score them"),
        ("rows", REAL_IMAGES, "use only the first rows of TRAINING_SET"),
    ):
        running.add_argument(f"--{name}", type=int, default=value, help=f"{what} (default: {value})")
    running.add_argument("--weights", default="imagenet", help="imagenet or a weights file (default: %(default)s)")
    running.add_argument("--budget", type=float, help="seconds of (e) (default: as long as the longer of (a) and (b))")
    running.add_argument("--minutes", type=float, default=float("inf"), help="skip runs that may not end in this time")
    commands.add_parser("show", help="print the table").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    else:
        show(options.out)


if __name__ == "__main__":
    main()

"""Measure what single changes to the training of a robust trial gain or lose.

    python benchmarks/ablation.py train WORKSPACE OUT.json
    python benchmarks/ablation.py show OUT.json

Prepare WORKSPACE with `--levels low,medium,hard,strong*12`. `train` trains the base trial (the first trial of the
robust study, on `strong` views alone) and one variant for each row of CHANGES. It skips the rows that OUT.json already
has, so you can interrupt it and run it again. A row draws from as many of the stored strong views as it names: `twelve
strong views` is close to what new views in every epoch could gain. Scores are those of the validation images, clean
and corrupted; no test image is read.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `hpsearch run` sets it
BACKBONE, HEAD_EPOCHS, EPOCHS = "mobilenetv2_035", 2, 8
FIGURES = ("accuracy", "macro_f1", "corrupted_macro_f1", "worst_family_macro_f1", "mean_macro_f1")
TITLES = ("clean acc.", "clean F1", "corrupted", "worst", "objective")


@dataclass(frozen=True)
class Change:
    """One variant of `base_trial`."""

    name: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    copies: int = 4
    """Stored views per level and image from which training draws."""
    seeds: tuple[int, ...] = (1,)
    times_epochs: int = 1
    """Epochs of fine-tuning, as a multiple of `--epochs`."""


CHANGES = (
    Change("nothing: strong views alone", seeds=(1, 2, 3)),
    Change("one strong view", copies=1, seeds=(1, 2, 3)),
    Change("twelve strong views", copies=12, seeds=(1, 2, 3)),
    Change("AugMix and RandAugment views", {"augmentation": "low+medium+hard"}),
    Change("both kinds of views", {"augmentation": "low+medium+hard+strong"}, seeds=(1, 2, 3)),
    Change("no stored views", {"augmentation": "none"}),
    Change("larger channel shifts", {"channel_shift": 0.15}),
    Change("no channel shifts", {"channel_shift": 0.0}),
    Change("CutMix and MixUp", {"mixing": "cutmix+mixup"}),
    Change("no masks", {"masks": 0.0}),
    Change("no flips", {"flips": False}),
    Change("no weight averaging", {"weight_averaging": 0.0}),
    Change("layer-wise rates", {"layer_decay": 0.7}),
    Change("in-model layers too", {"input_mode": "bank+in-model"}),
    Change("a quarter frozen", {"frozen_fraction": 0.25}),
    Change("curriculum", {"augmentation": "low+medium+hard+strong", "curriculum": True}, seeds=(1, 2, 3)),
    Change("progressive unfreezing", {"unfreezing_steps": 2}),
    Change("twice as many epochs", times_epochs=2),
    Change("two views an epoch, twice as long", {"views_per_image": 2}),
)


def base_trial() -> dict[str, Any]:
    """Return the hyperparameters of the robust study's first trial, as they were before this benchmark changed them."""
    from models.backbones.registry import BACKBONES
    from models.hyperparameters import names
    from studies.definition import read_definition

    first = read_definition("robust", BACKBONE, names(), [row.name for row in BACKBONES]).first[0]
    return {name: value for name, value in first.items() if name != "curriculum"} | {"augmentation": "strong"}


def train(workspace: Path, out: Path, wanted: list[str], weights: str, epochs: int) -> None:
    """Train the wanted changes that OUT does not have yet, and add a row for each seed.

    Args:
        wanted: Names of the changes.
        weights: Initial weights: `imagenet`, `none` or a file.
        epochs: Epochs of fine-tuning.
    """
    from data_prep.storage.reader import PreparedSet
    from models.backbones.registry import backbone_named
    from models.hyperparameters import Hyperparameters
    from models.networks.classifier import ClassifierSettings
    from models.scoring.objectives import DEFAULT_OBJECTIVE
    from models.training.plan import Plan
    from models.training.recipe import Recipe
    from models.training.trial import run_trial
    from search.engine.trial_data import training_data

    prepared = PreparedSet.open(workspace / "prepared")
    base = base_trial()
    network = ClassifierSettings(backbone_named(BACKBONE), weights, prepared.image_shape, len(prepared.class_names))
    report = json.loads(out.read_text()) if out.exists() else {"base": base, "rows": []}
    if report["base"] != base:
        raise SystemExit(f"{out} has changes to another trial, {report['base']}: name another file")
    done = {(row["change"], row["seed"]) for row in report["rows"]}
    missing = [(row, seed) for row in CHANGES if row.name in wanted for seed in row.seeds]
    missing = [(row, seed) for row, seed in missing if (row.name, seed) not in done]
    for change, seed in missing:
        started = time.perf_counter()
        hyperparameters = Hyperparameters.from_dict(base | change.hyperparameters)
        plan = Plan(
            network, hyperparameters, Recipe(HEAD_EPOCHS, change.times_epochs * epochs), DEFAULT_OBJECTIVE, seed
        )
        data = training_data(prepared, hyperparameters)
        banks = [bank[:, : change.copies] for bank in data.views.banks]
        outcome = run_trial(plan, replace(data, views=replace(data.views, banks=banks)), lambda figures: False)
        scores = {name: outcome.best.validation[name] for name in FIGURES}
        row = {"change": change.name, "hyperparameters": change.hyperparameters, "copies": change.copies}
        row |= {"epochs": [HEAD_EPOCHS, change.times_epochs * epochs], "seed": seed, "best_epoch": outcome.best.step}
        report["rows"].append(row | {"seconds": round(time.perf_counter() - started, 1), "validation": scores})
        report |= {"date": datetime.now(UTC).date().isoformat(), "prepared": prepared.fingerprint}
        report |= {"machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"}
        out.write_text(json.dumps(report, indent=1) + "\n")
        print(change.name, seed, {name: round(value, 4) for name, value in scores.items()}, flush=True)


def show(out: Path) -> None:
    """Print the mean scores of each change, the largest gain first.

    The gain is the difference in the objective to the first row, on the same seeds.
    """
    by_change: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(out.read_text())["rows"]:
        by_change.setdefault(row["change"], []).append(row)
    means = {
        name: [statistics.fmean(row["validation"][figure] for row in rows) for figure in FIGURES]
        for name, rows in by_change.items()
    }
    base = CHANGES[0].name
    of_base = {row["seed"]: row["validation"]["mean_macro_f1"] for row in by_change[base]}
    noise = statistics.stdev(of_base.values()) if len(of_base) > 1 else float("nan")
    gains = {
        name: statistics.fmean(row["validation"]["mean_macro_f1"] - of_base[row["seed"]] for row in rows)
        for name, rows in by_change.items()
    }
    print(f"standard deviation of the objective between seeds of the first row: {noise:.4f}")
    print(f"{'change':<36}" + "".join(f"{title:>11}" for title in TITLES) + f"{'gain':>9}{'seeds':>6}{'s':>6}")
    for name, figures in sorted(means.items(), key=lambda found: (found[0] != base, -gains[found[0]])):
        seconds = statistics.fmean(row["seconds"] for row in by_change[name])
        cells = "".join(f"{value:>11.4f}" for value in figures)
        print(f"{name:<36}{cells}{gains[name]:>+9.4f}{len(by_change[name]):>6}{seconds:>6.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the changes that OUT does not have yet")
    training.add_argument("workspace", type=Path)
    training.add_argument("out", type=Path)
    names = [row.name for row in CHANGES]
    training.add_argument("--change", action="append", choices=names, help="train this change only; may be repeated")
    training.add_argument("--weights", default="imagenet", help="imagenet, none or a file (default: %(default)s)")
    training.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of fine-tuning (default: %(default)s)")
    commands.add_parser("show", help="print the table").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "train":
        train(options.workspace, options.out, options.change or names, options.weights, options.epochs)
    else:
        show(options.out)


if __name__ == "__main__":
    main()

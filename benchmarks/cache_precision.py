"""Compare final scores with the prefix cache in float32, in float16, and switched off.

    python benchmarks/cache_precision.py run WORKSPACE OUT.json
    python benchmarks/cache_precision.py show OUT.json

The question is whether the cache's precision changes scores more than another seed does. `run` trains three choices of
hyperparameters as `hpsearch run` does, to their last epoch, with the same seeds in each precision, so that only the
rounding of the cached features differs. It skips the rows that OUT.json already has. Without the cache, the same
arithmetic runs in another order: the difference to float32 shows how far rounding errors of 1e-7 grow over a whole
training. Scores are validation scores, computed by the whole network without the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `hpsearch run` sets it
BACKBONE, SEEDS, CACHE_GB = "mobilenetv2_035", "1,2,3,4,5,6,7,8", 8.0
REFERENCE, PRECISIONS = "float32", ("float32", "float16", "off")
FIRST = {
    "frozen_fraction": 0.25,
    "dropout": 0.2,
    "learning_rate": 0.001,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "augmentation": "none",
}
TRIALS = {
    "first trial of the default space": FIRST,
    "second trial of the default space": FIRST | {"learning_rate": 0.0005, "augmentation": "low+medium+hard"},
    "three quarters frozen": FIRST | {"frozen_fraction": 0.75, "augmentation": "low+medium+hard"},
}


def run(workspace: Path, out: Path, network: tuple[str, str], seeds: list[int], epochs: int) -> None:
    """Train what OUT does not have yet, and add a row for each trial, seed and precision.

    Args:
        network: Backbone and initial weights.
        seeds: Training seeds.
        epochs: Epochs of fine-tuning.
    """
    from models.scoring.objectives import DEFAULT_OBJECTIVE
    from models.training.recipe import Recipe
    from search.engine.job import NetworkSource, TrainingJob
    from search.engine.keras_trainer import KerasTrainer
    from studies.settings import StudySettings

    backbone, weights = network
    recipe = asdict(Recipe(epochs=epochs))
    report = json.loads(out.read_text()) if out.exists() else {"backbone": backbone, "recipe": recipe, "rows": []}
    if (report["backbone"], report["recipe"]["epochs"]) != (backbone, epochs):
        raise SystemExit(
            f"{out} has rows of {report['backbone']}, {report['recipe']['epochs']} epochs: name another file"
        )
    done = {(row["trial"], row["seed"], row["precision"]) for row in report["rows"]}
    trainer = KerasTrainer()
    for seed, name, precision in product(seeds, TRIALS, PRECISIONS):
        if (name, seed, precision) in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            settings = StudySettings(
                backbone, "", weights, recipe, DEFAULT_OBJECTIVE, "tpe", "none", 0, {},
                prefix_cache=precision, prefix_cache_gb=CACHE_GB,
            )  # fmt: skip
            source = NetworkSource(str(workspace / "prepared"), backbone, weights)
            job = TrainingJob(
                settings, source, folder, TRIALS[name], seed, cache_folder=str(workspace / "cache" / "features")
            )
            started = time.perf_counter()
            best = trainer.train(asdict(job), lambda figures: False)["best"]
        row = {"trial": name, "hyperparameters": TRIALS[name], "seed": seed, "precision": precision}
        row |= {"value": best["value"], "best_epoch": best["step"]}
        report["rows"].append(row | {"seconds": round(time.perf_counter() - started, 1)})
        report |= {"date": datetime.now(UTC).date().isoformat()}
        report |= {"machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"}
        out.write_text(json.dumps(report, indent=1) + "\n")
        print(name, seed, precision, round(best["value"], 4), flush=True)


def show(out: Path) -> None:
    """Print a line for each trial and precision.

    It has mean and standard deviation over seeds, then the difference to float32 on the same seeds: its mean, its
    standard error and its standard deviation.
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    for row in json.loads(out.read_text())["rows"]:
        values.setdefault(row["trial"], {}).setdefault(row["precision"], {})[row["seed"]] = row["value"]
    print(f"{'trial':<36}{'cache':<9}{'seeds':>5}{'mean':>9}{'sd':>9}{'- float32':>11}{'std err':>9}{'sd diff':>10}")
    for name, by_precision in values.items():
        reference = by_precision[REFERENCE]
        for precision in PRECISIONS:
            found = by_precision.get(precision, {})
            pairs = [value - reference[seed] for seed, value in found.items() if seed in reference]
            if len(pairs) > 1:
                print(f"{name:<36}{precision:<9}{_figures(list(found.values()), pairs)}")


def _figures(found: list[float], pairs: list[float]) -> str:
    spread = statistics.stdev(pairs)
    difference = f"{statistics.fmean(pairs):>+11.4f}{spread / len(pairs) ** 0.5:>9.4f}{spread:>10.4f}"
    return f"{len(pairs):>5}{statistics.fmean(found):>9.4f}{statistics.stdev(found):>9.4f}{difference}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train the rows that OUT does not have yet")
    running.add_argument("workspace", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--backbone", default=BACKBONE)
    running.add_argument("--weights", default="imagenet", help="imagenet or a file (default: %(default)s)")
    running.add_argument("--seeds", default=SEEDS, help="comma-separated, two or more (default: %(default)s)")
    running.add_argument("--epochs", type=int, default=12, help="epochs of fine-tuning (default: %(default)s)")
    commands.add_parser("show", help="print the table").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        seeds = [int(seed) for seed in options.seeds.split(",")]
        run(options.workspace, options.out, (options.backbone, options.weights), seeds, options.epochs)
    else:
        show(options.out)


if __name__ == "__main__":
    main()

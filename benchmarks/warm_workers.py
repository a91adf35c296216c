"""Measure the time from a training process's receipt of a job to the end of its first training step.

    python benchmarks/warm_workers.py run WORKSPACE BACKBONE OUT.json [--trials 20] [--weights imagenet]
    python benchmarks/warm_workers.py show OUT.json

One real training process gets jobs as a search sends them, each with newly drawn hyperparameters. The process is warm:
every shape of network (frozen fraction, input mode) was trained once before, and these trainings do not count. Each
trial stops after its first epoch of fine-tuning, so a small workspace (`prepare --limit 200`) gives the same figures in
less time.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import backbone_named
from models.training.recipe import Recipe
from search.engine.job import NetworkSource, TrainingJob
from search.engine.worker import Worker
from studies.settings import PREFIX_CACHE_OFF, StudySettings

CUTS, MODES = (0.0, 0.25, 0.5, 0.75), ("bank", "bank+in-model")


def jobs(base: TrainingJob, trials: int) -> list[TrainingJob]:
    """Return one job for each shape, then as many as `trials`, all with their own hyperparameters."""
    rng = np.random.default_rng(0)
    shapes = list(product(CUTS, MODES))
    found = []
    for number in range(len(shapes) + trials):
        cut, mode = shapes[number % len(shapes)]
        hyperparameters = {
            "frozen_fraction": cut,
            "input_mode": mode,
            "dropout": float(rng.uniform(0, 0.5)),
            "learning_rate": float(10 ** rng.uniform(-4.5, -3)),
            "optimizer": str(rng.choice(["adamw", "adam", "sgd", "rmsprop"])),
            "weight_decay": float(10 ** rng.uniform(-5, -1)),
            "momentum": float(rng.uniform(0.8, 0.97)),
            "label_smoothing": float(rng.choice([0.0, 0.05, 0.1])),
            "augmentation": "low",
        }
        found.append(replace(base, hyperparameters=hyperparameters, seed=number, folder=f"{base.folder}/{number:05d}"))
    return found


def measure(workspace: Path, backbone: str, weights: str, trials: int) -> list[dict[str, Any]]:
    """Train all jobs in one training process; return a row for each."""
    prepared = (workspace / "prepared").resolve()
    PreparedSet.open(prepared)
    backbone_named(backbone)
    folder = workspace.resolve() / "warm"
    recipe = asdict(Recipe(head_epochs=1, epochs=1))
    cache = "float32" if weights != "none" else PREFIX_CACHE_OFF
    settings = StudySettings(
        backbone, "", weights, recipe, "macro_f1", "tpe", "none", 0, {}, prefix_cache=cache, prefix_cache_gb=8.0
    )
    source = NetworkSource(str(prepared), backbone, weights)
    cache_folder = str(workspace.resolve() / "cache" / "features")
    base = TrainingJob(settings, source, str(folder), {}, 0, cache_folder=cache_folder)
    worker = Worker(folder / "worker.log")
    rows = []
    for number, job in enumerate(jobs(base, trials)):
        process = worker.process
        end = worker.train(job, lambda figures: figures[-1]["phase"] != "head" or weights == "none")
        outcome = end["outcome"]
        rows.append(
            {
                "warm_up": number < len(CUTS) * len(MODES),
                "new_process": worker.process is not process,
                "first_step_s": outcome["first_step_s"],
                "memory_mb": end["memory_mb"],
                "hyperparameters": job.hyperparameters,
                "loss": outcome["best"]["training_loss"],
            }
        )
        print(number, f"{outcome['first_step_s']:.2f} s", end["memory_mb"], "MB", flush=True)
    worker.stop()
    return rows


def show(table: dict[str, Any]) -> None:
    for backbone, entry in table.items():
        counted = [row for row in entry["rows"] if not row["warm_up"]]
        seconds = [row["first_step_s"] for row in counted]
        print(
            f"{backbone} ({entry['machine']}, {entry['date']}): first step after {np.median(seconds):.2f} s (median), "
            f"{np.quantile(seconds, 0.95):.2f} s (95th percentile) in {len(seconds)} trials, new processes: "
            f"{sum(row['new_process'] for row in counted)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure one backbone and add it to OUT")
    running.add_argument("workspace", type=Path)
    running.add_argument("backbone")
    running.add_argument("out", type=Path)
    running.add_argument("--trials", type=int, default=20, help="trials that count (default: %(default)s)")
    running.add_argument("--weights", default="imagenet", help="imagenet, none or a file (default: %(default)s)")
    commands.add_parser("show", help="print the figures").add_argument("out", type=Path)
    options = parser.parse_args()
    table = json.loads(options.out.read_text()) if options.command == "show" or options.out.exists() else {}
    if options.command == "run":
        rows = measure(options.workspace, options.backbone, options.weights, options.trials)
        machine = f"{os.cpu_count()} cores, {os.uname().machine}"
        table[options.backbone] = {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows}
        options.out.write_text(json.dumps(table, indent=1) + "\n")
    show(table)


if __name__ == "__main__":
    main()

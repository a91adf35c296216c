"""Compare the model that the full demo exports with one plain training of the same network.

    python benchmarks/demo_seeds.py [--seeds 0,1,2] [--out OUT.json]

A seed takes some minutes. For each, `hpsearch demo --size full --seed SEED` runs in a new workspace, and its time and
the exported model's test scores are recorded. Then the same small CNN is trained once on the same prepared set for as
many epochs: Adam at 1e-3, dropout 0.3, no augmentation, best epoch by clean validation macro-F1. Scores are macro-F1 on
the test images: clean, under the corruptions that also score trials, and under corruptions used for nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
RESULTS = Path(__file__).with_name("results") / "demo_seeds.json"
PARTS = {"": "clean", "corrupted": "known corruptions", "test_only_corrupted": "unseen corruptions"}
"""Key under `test` in metrics.json, as in search.exporting.scored_parts -> title. The empty key is `test` itself."""
PLAIN = {"optimizer": "adam", "learning_rate": 1e-3, "dropout": 0.3, "augmentation": "none", "frozen_fraction": 0.0}


def run_demo(workspace: Path, seed: int, size: Sequence[str]) -> dict[str, Any]:
    """Run the demo as a user does; return its seconds, trial counts and the exported model's test scores.

    Args:
        size: Options of `hpsearch demo` that set the size of the search.
    """
    hpsearch = [sys.executable, "-P", "-c", "from search.cli import main; main()", "-w", str(workspace)]
    started = time.monotonic()
    subprocess.run([*hpsearch, "demo", *size, "--seed", str(seed)], check=True)
    seconds = time.monotonic() - started
    (status,) = json.loads(subprocess.run([*hpsearch, "status", "--json"], check=True, capture_output=True).stdout)
    (metrics,) = (json.loads(path.read_text()) for path in workspace.glob("exports/*/metrics.json"))
    return {
        "seconds": round(seconds),
        "trials": status["complete"] + status["pruned"],
        "pruned": status["pruned"],
        "hyperparameters": metrics["hyperparameters"],
        "validation_macro_f1": metrics["validation"]["macro_f1"],
        "test_macro_f1": {
            title: (metrics["test"][key] if key else metrics["test"])["macro_f1"] for key, title in PARTS.items()
        },
    }


def train_plainly(workspace: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Train the demo's network once on the demo's data; return its validation and test scores."""
    from data_prep.storage.reader import PreparedSet
    from models.hyperparameters import Hyperparameters
    from models.networks.predicting import predict
    from models.scoring.metrics import figures
    from models.training.plan import Plan
    from models.training.recipe import Recipe
    from models.training.trial import run_trial
    from search.engine.job import NetworkSource
    from search.engine.keras_trainer import classifier_settings
    from search.engine.trial_data import training_data
    from search.exporting.locked_test import add_reading
    from search.exporting.scored_parts import score_split
    from search.workspace import Workspace

    prepared = PreparedSet.open(workspace / "prepared")
    hyperparameters = Hyperparameters(**PLAIN)
    settings = classifier_settings(NetworkSource(str(prepared.folder), "small_cnn", "none"))
    plan = Plan(settings, hyperparameters, Recipe(epochs=epochs), "macro_f1", seed)
    outcome = run_trial(plan, training_data(prepared, hyperparameters), lambda figures: False)
    model = outcome.classifier.joined

    def answers(paths: Sequence[Path]) -> list[np.ndarray]:
        return [predict(model, np.load(path).reshape(-1, *prepared.image_shape)) for path in paths]

    scored = score_split(prepared, "test", answers)
    test = {PARTS[key]: figures(*part.flat())["macro_f1"] for key, part in scored.items()}
    add_reading(Workspace(workspace), "benchmarks/demo_seeds.py", {"model": "plain"}, {"macro_f1": test["clean"]})
    return {"validation_macro_f1": outcome.best.value, "test_macro_f1": test}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=14, help="trials of the demo's search (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of a trial, at most (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results/demo_seeds.json")
    options = parser.parse_args()
    size = ("--size", "full", "--trials", str(options.trials), "--epochs", str(options.epochs))
    rows: list[dict[str, Any]] = []
    for seed in map(int, options.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            demo = run_demo(Path(folder), seed, size)
            plain = train_plainly(Path(folder), seed, options.epochs)
        gain = {title: demo["test_macro_f1"][title] - plain["test_macro_f1"][title] for title in PARTS.values()}
        rows.append({"seed": seed, "demo": demo, "plain": plain, "gain": gain})
        print(f"seed {seed}: {demo['seconds']} s, {demo['trials']} trials, {demo['pruned']} pruned; test macro-F1:")
        for title in PARTS.values():
            print(
                f"  {title:<20} demo {demo['test_macro_f1'][title]:.4f}, plain {plain['test_macro_f1'][title]:.4f}, "
                f"gain {gain[title]:+.4f}",
                flush=True,
            )
    medians = {title: statistics.median(row["gain"][title] for row in rows) for title in PARTS.values()}
    print("median gain:", ", ".join(f"{title} {value:+.4f}" for title, value in medians.items()))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "median_gain": medians, "seeds": rows}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

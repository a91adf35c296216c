"""The demo against a single plain training, three seeds: what does the search win on the demo's test images?

    python benchmarks/demo_seeds.py [--seeds 0,1,2] [--out benchmarks/results/demo_seeds.json]     # about 12 minutes

For each seed: `hpsearch demo --seed SEED` in a fresh workspace (timed; its exported model's test figures are read from
metrics.json), and the same small CNN trained once on the same prepared set for the same epochs, with Adam 1e-3,
dropout 0.3 and no augmentation, its best epoch chosen on validation as the search does.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
RESULTS = Path(__file__).with_name("results") / "demo_seeds.json"
PLAIN = {"optimizer": "adam", "learning_rate": 1e-3, "dropout": 0.3, "augmentation": "none", "frozen_fraction": 0.0}


def run_demo(workspace: Path, seed: int) -> dict[str, Any]:
    """The demo as a user runs it: seconds, counts, and the exported model's test figures."""
    hpsearch = [sys.executable, "-P", "-c", "from search.cli import main; main()", "-w", str(workspace)]
    started = time.monotonic()
    subprocess.run([*hpsearch, "demo", "--seed", str(seed)], check=True)
    seconds = time.monotonic() - started
    (status,) = json.loads(subprocess.run([*hpsearch, "status", "--json"], check=True, capture_output=True).stdout)
    (metrics,) = (json.loads(path.read_text()) for path in workspace.glob("exports/*/metrics.json"))
    return {
        "seconds": round(seconds),
        "trials": status["complete"] + status["pruned"],
        "pruned": status["pruned"],
        "hyperparameters": metrics["hyperparameters"],
        "validation_macro_f1": metrics["validation"]["macro_f1"],
        "test_macro_f1": metrics["test"]["macro_f1"],
    }


def train_plainly(workspace: Path, seed: int) -> dict[str, float]:
    """The comparison: one training of the demo's network on the demo's data."""
    from data_prep.prepared import PreparedSet
    from models.hyperparameters import Hyperparameters
    from models.metrics import figures
    from models.predicting import predict
    from models.recipe import Recipe
    from models.training import run_trial
    from models.trial import Plan
    from search.commands.demo import EPOCHS
    from search.readings import add_reading
    from search.trainer import classifier_settings, training_data
    from search.workspace import Workspace

    prepared = PreparedSet.open(workspace / "prepared")
    hyperparameters = Hyperparameters(**PLAIN)
    settings = classifier_settings(prepared, {"backbone": "small_cnn", "weights": "none"})
    plan = Plan(settings, hyperparameters, Recipe(epochs=EPOCHS), "macro_f1", seed)
    outcome = run_trial(plan, training_data(prepared, hyperparameters), lambda figures: False)
    test = figures(prepared.labels("test"), predict(outcome.classifier.joined, prepared.images("test")))
    add_reading(Workspace(workspace), "benchmarks/demo_seeds.py", {"model": "plain"}, test)
    return {"validation_macro_f1": outcome.best.value, "test_macro_f1": test["macro_f1"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = []
    for seed in map(int, options.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            demo = run_demo(Path(folder), seed)
            plain = train_plainly(Path(folder), seed)
        gain = demo["test_macro_f1"] - plain["test_macro_f1"]
        rows.append({"seed": seed, "demo": demo, "plain": plain, "gain": gain})
        cost = f"{demo['seconds']} s, {demo['trials']} trials, {demo['pruned']} pruned"
        print(f"seed {seed}: demo {demo['test_macro_f1']:.4f} ({cost})", end="", flush=True)
        print(f", plain {plain['test_macro_f1']:.4f}, gain {gain:+.4f}", flush=True)
    median = statistics.median(row["gain"] for row in rows)
    print(f"median gain in test macro-F1: {median:+.4f}")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "median_gain": median, "seeds": rows}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

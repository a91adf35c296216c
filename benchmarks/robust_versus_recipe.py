"""Compare a robust study's winner with the published blood-cell recipe, on a fold that neither has seen.

    python benchmarks/robust_versus_recipe.py score NAME MODEL.keras FOLD_WORKSPACE OUT.json
    python benchmarks/robust_versus_recipe.py show OUT.json

MODEL.keras takes uint8 images: it comes from `hpsearch export-best` or from published_recipe.py, whose recipe.json in
the same folder is copied into the row. `score` adds or replaces the row NAME: accuracy and macro-F1 on the fold, clean
and corrupted, by family, and the balanced errors of the MedMNIST-C corruptions of the fold's images. It adds a line to
the test-readings counter of FOLD_WORKSPACE.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from ranking import fold_scores, machine

SUITE = "medmnist-c"
PARTS = {
    "clean": "clean",
    "by validation corruptions": "known corruptions",
    "by test corruptions": "unseen corruptions",
}


def score(name: str, model: Path, fold: Path, out: Path) -> None:
    """Score a model on the fold, and add its row to OUT."""
    import keras

    from data_prep.storage.reader import PreparedSet
    from models.networks.predicting import predict
    from search.evaluating.suites import run_suite
    from search.workspace import Workspace

    network = keras.saving.load_model(model)
    found = fold_scores(network, Workspace(fold), {"model": name})
    prepared = PreparedSet.open(fold / "prepared")
    images, labels = prepared.images("test"), prepared.labels("test")
    row: dict[str, Any] = {"name": name, "date": datetime.now(UTC).date().isoformat(), "machine": machine()}
    row |= {"fold": found, SUITE: run_suite(SUITE, lambda part: predict(network, part), images, labels)}
    recipe = model.with_name("recipe.json")
    row["recipe"] = json.loads(recipe.read_text()) if recipe.exists() else None
    report = json.loads(out.read_text()) if out.exists() else {"rows": []}
    report["rows"] = [one for one in report["rows"] if one["name"] != name] + [row]
    out.write_text(json.dumps(report, indent=1) + "\n")
    show(out)


def show(out: Path) -> None:
    """Print a column for each model: accuracies, those of each corruption family, and MedMNIST-C's balanced errors."""
    rows = json.loads(out.read_text())["rows"]
    names = [row["name"] for row in rows]
    print(f"{'accuracy on':<40}" + "".join(f"{name:>24}" for name in names))
    for part, title in PARTS.items():
        print(f"{title:<40}" + "".join(f"{row['fold'][part]['accuracy']:>24.4f}" for row in rows))
    for part, title in list(PARTS.items())[1:]:
        for family in rows[0]["fold"][part]["families"]:
            values = [row["fold"][part]["families"][family]["accuracy"] for row in rows]
            print(f"  {title + ': ' + family:<38}" + "".join(f"{value:>24.4f}" for value in values))
    for key, title in (("clean_balanced_error", "clean"), ("balanced_error", "mean of corruptions")):
        print(f"{f'{SUITE}, balanced error, {title}':<40}" + "".join(f"{row[SUITE][key]:>24.4f}" for row in rows))
    for place, one in enumerate(rows[0][SUITE]["rows"]):
        values = [row[SUITE]["rows"][place]["balanced_error"] for row in rows]
        print(f"  {one['corruption']:<38}" + "".join(f"{value:>24.4f}" for value in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    scoring = commands.add_parser("score", help="score a model on the fold")
    scoring.add_argument("name")
    for name in ("model", "fold_workspace", "out"):
        scoring.add_argument(name, type=Path)
    commands.add_parser("show", help="print the table").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "score":
        score(options.name, options.model, options.fold_workspace, options.out)
    else:
        show(options.out)


if __name__ == "__main__":
    main()

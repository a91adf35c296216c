"""Check whether a study's objective ranks its trials as corruptions that it never saw rank them.

    python benchmarks/ranking.py score WORKSPACE FOLD_WORKSPACE OUT.json
    python benchmarks/ranking.py show OUT.json

WORKSPACE holds a study that ran without pruning and kept all weights (`--pruner none --keep 1000`). FOLD_WORKSPACE has
a prepared set whose test part is the held-out fold (see held_out_fold.py), with its corrupted views.

`score` adds a row for each complete trial that OUT.json does not have yet: the scores of its weights on the fold,
clean, under the corruptions that also score trials, and under the test-only corruptions. Each scoring adds a line to
the test-readings counter of FOLD_WORKSPACE.

`show` takes the trials that the sampler chose itself (not the queued ones) and whose clean accuracy is at most 5 points
below the best. It prints Kendall's tau and Spearman's rho between each figure that a study could maximize and accuracy
under the test-only corruptions. The 95 % bootstrap interval (trials drawn with replacement) is that of the excess of a
figure's tau over the tau of clean validation accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `hpsearch run` sets it
REFERENCE = "accuracy"
COLUMNS = (REFERENCE, "macro_f1", "corrupted_macro_f1", "mean_macro_f1", "worst_family_macro_f1")
WITHIN = 0.05
RESAMPLES = 2000


def score_trials(workspace: Path, fold: Path, out: Path) -> None:
    """Score each complete trial that OUT does not have yet, and add a row for it."""
    from data_prep.storage.reader import PreparedSet
    from search.workspace import Workspace
    from studies.records import records_of
    from studies.settings import stored_settings
    from studies.storage import existing_storage, load_study, study_names

    report = json.loads(out.read_text()) if out.exists() else {"rows": []}
    done = {(row["study"], row["trial"]) for row in report["rows"]}
    prepared = PreparedSet.open(workspace / "prepared")
    storage = existing_storage(workspace / "studies.db")
    for name in study_names(storage):
        study = load_study(storage, name)
        settings = stored_settings(study)
        report |= {"objective": settings.objective, "recipe": settings.recipe, "space": settings.space}
        queued = {trial.number for trial in study.trials if "fixed_params" in trial.system_attrs}
        for record in records_of(study):
            if record.state != "complete" or (name, record.number) in done:
                continue
            scores = score_on_fold(Workspace(workspace), prepared, Workspace(fold), settings, record)
            validation = {key: record.outcome["best"]["validation"][key] for key in COLUMNS}
            row = {"study": name, "trial": record.number, "queued": record.number in queued}
            row |= {"seconds": round(record.seconds, 1), "hyperparameters": record.hyperparameters}
            report["rows"].append(row | {"validation": validation, "fold": scores})
            report |= {"date": datetime.now(UTC).date().isoformat(), "machine": machine()}
            out.write_text(json.dumps(report, indent=1) + "\n")
            print(name, record.number, {key: round(value["accuracy"], 4) for key, value in scores.items()}, flush=True)


def score_on_fold(workspace: Any, prepared: Any, fold: Any, settings: Any, record: Any) -> dict[str, Any]:
    """Return a trial's accuracy and macro-F1 on the fold: clean, and under both kinds of corruptions, by family."""
    from models.backbones.registry import UNTRAINED, backbone_named
    from models.networks.classifier import ClassifierSettings, make_classifier
    from search.engine.job import WEIGHTS_FILE, trial_folder

    network = ClassifierSettings(
        backbone_named(settings.backbone),
        UNTRAINED,
        prepared.image_shape,
        len(prepared.class_names),
        int(record.hyperparameters.get("resolution", 0)),
    )
    model = make_classifier(network, 0.0).joined
    model.load_weights(trial_folder(workspace.trials, settings.name, record.number) / WEIGHTS_FILE)
    what = {"study": settings.name, "trial": record.number, "weights_sha256": ""}
    return fold_scores(model, fold, what)


def fold_scores(model: Any, fold: Any, what: dict[str, Any]) -> dict[str, Any]:
    """Score a model on the fold's test part, and add a line to the counter of the fold's workspace.

    Args:
        model: Takes uint8 images (n, h, w, 3).
        fold: The fold's `Workspace`.
        what: What the line says of the model.
    """
    from data_prep.storage.reader import PreparedSet
    from models.networks.predicting import predict
    from models.scoring.metrics import figures
    from models.scoring.trial_scores import score
    from search.exporting.locked_test import add_reading

    prepared = PreparedSet.open(fold.prepared)
    labels, clean = prepared.labels("test"), predict(model, prepared.images("test"))
    scores: dict[str, Any] = {"clean": {key: figures(labels, clean)[key] for key in ("accuracy", "macro_f1")}}
    for used_by in ("validation", "test"):
        views = prepared.corrupted("test", used_by)
        flat = predict(model, views.images.reshape(-1, *views.images.shape[2:]))
        found = score(labels, clean, flat.reshape(*views.images.shape[:2], -1), views.families)
        kept = {"accuracy": found["corrupted_accuracy"], "macro_f1": found["corrupted_macro_f1"]}
        scores[f"by {used_by} corruptions"] = kept | {"families": found["families"]}
    add_reading(fold, "benchmark", what, {key: value["accuracy"] for key, value in scores.items()})
    return scores


def correlations(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Compare each validation figure with accuracy under the test-only corruptions.

    Returns:
        Name in COLUMNS -> tau, rho, and the 95 % interval of the tau's excess over that of REFERENCE.
    """
    truth = np.array([row["fold"]["by test corruptions"]["accuracy"] for row in rows])
    columns = {name: np.array([row["validation"][name] for row in rows]) for name in COLUMNS}
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, len(rows), len(rows)) for _ in range(RESAMPLES)]
    taus = {
        name: np.array([kendalltau(values[s], truth[s]).statistic for s in samples]) for name, values in columns.items()
    }
    result = {}
    for name, values in columns.items():
        low, high = np.nanpercentile(taus[name] - taus[REFERENCE], [2.5, 97.5])
        rank = {"tau": kendalltau(values, truth).statistic, "rho": spearmanr(values, truth).statistic}
        result[name] = {key: float(value) for key, value in (rank | {"excess_low": low, "excess_high": high}).items()}
    return result


def show(out: Path) -> None:
    """Print the table, and store its correlations in OUT."""
    report = json.loads(out.read_text())
    best = max(row["validation"][REFERENCE] for row in report["rows"])
    rows = [row for row in report["rows"] if not row["queued"] and row["validation"][REFERENCE] >= best - WITHIN]
    report["trials"], report["correlations"] = len(rows), correlations(rows)
    out.write_text(json.dumps(report, indent=1) + "\n")
    spread = [[row["fold"][part]["accuracy"] for row in rows] for part in ("clean", "by test corruptions")]
    print(f"{len(rows)} sampled trials within {100 * WITHIN:.0f} points of the best clean accuracy {best:.4f}")
    print("on the fold: clean {:.3f} to {:.3f}, test-only corruptions {:.3f} to {:.3f}".format(
        *(end for values in spread for end in (min(values), max(values)))))  # fmt: skip
    print(f"{'validation figure':<24}{'tau':>8}{'rho':>8}   tau's excess over that of clean accuracy, 95 %")
    for name, found in report["correlations"].items():
        low, high = found["excess_low"], found["excess_high"]
        print(f"{name:<24}{found['tau']:>8.3f}{found['rho']:>8.3f}   {low:+.3f} to {high:+.3f}")


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    scoring = commands.add_parser("score", help="score the trials that OUT does not have yet")
    for name in ("workspace", "fold_workspace"):
        scoring.add_argument(name, type=Path)
    scoring.add_argument("out", type=Path)
    commands.add_parser("show", help="print the table").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "score":
        score_trials(options.workspace, options.fold_workspace, options.out)
    else:
        show(options.out)


if __name__ == "__main__":
    main()

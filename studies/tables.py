"""The tables of `status` and `compare`, as rows of plain values: one place for the terminal and for --json."""

from __future__ import annotations

from collections import Counter
from typing import Any

from optuna import Study

from studies.records import best_record, records_of
from studies.settings import stored_settings

COMPARED = ("accuracy", "macro_precision", "macro_recall", "macro_f1")


def status_row(study: Study) -> dict[str, Any]:
    """Counts by state, epochs and seconds spent, and the best value of a study."""
    records = records_of(study)
    states = Counter(record.state for record in records)
    failures = Counter(record.failure["kind"] for record in records if record.failure)
    best = best_record(records)
    return {
        "study": study.study_name,
        **{state: states[state] for state in ("complete", "pruned", "fail", "running", "waiting")},
        "failures": dict(failures),
        "epochs": sum(len(record.epochs) for record in records),
        "seconds": round(sum(record.seconds for record in records), 1),
        "objective": stored_settings(study).objective,
        "best_value": best.value if best else None,
        "best_trial": best.number if best else None,
    }


def compare_row(study: Study) -> dict[str, Any] | None:
    """The best trial of a study with its validation figures; None without a complete trial."""
    best = best_record(records_of(study))
    if best is None:
        return None
    settings, scores = stored_settings(study), best.outcome["best"]["validation"]
    return {
        "backbone": settings.backbone,
        "study": study.study_name,
        "fingerprint": settings.fingerprint,
        "trial": best.number,
        **{name: scores[name] for name in COMPARED},
        "parameters": best.outcome["parameters"],
        "ms_per_image": best.outcome["ms_per_image"],
        "hyperparameters": best.hyperparameters,
    }

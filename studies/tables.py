"""The tables of `status` and `compare`, as rows of plain values: one place for the terminal and for --json."""

from __future__ import annotations

from collections import Counter
from typing import Any

from optuna import Study

from studies.records import TrialRecord, best_record, records_of
from studies.settings import stored_settings

COMPARED = ("accuracy", "macro_precision", "macro_recall")
SCORES = ("macro_f1", "corrupted_macro_f1", "worst_family_macro_f1")
"""What trials are ranked by: clean, corrupted, and the family of corruptions where it is lowest."""


def status_row(study: Study) -> dict[str, Any]:
    """Counts by state, epochs and seconds spent, and the best value of a study."""
    records = records_of(study)
    states = Counter(record.state for record in records)
    failures = Counter(record.failure["kind"] for record in records if record.failure)
    best = best_record(records)
    return {
        "study": study.study_name,
        **{state: states[state] for state in ("complete", "pruned", "fail", "running", "waiting")},
        "cut_off": sum(record.state == "waiting" and bool(record.epochs) for record in records),
        "failures": dict(failures),
        "epochs": sum(len(record.epochs) for record in records),
        "seconds": round(sum(record.seconds for record in records), 1),
        "objective": stored_settings(study).objective,
        "best_value": best.value if best else None,
        "best_trial": best.number if best else None,
    }


def trial_row(study: Study, record: TrialRecord) -> dict[str, Any]:
    """A complete trial with its validation figures; None for those that its study did not measure."""
    settings, scores = stored_settings(study), record.outcome["best"]["validation"]
    return {
        "backbone": settings.backbone,
        "study": study.study_name,
        "fingerprint": settings.fingerprint,
        "trial": record.number,
        "objective": settings.objective,
        "value": record.value,
        **{name: scores.get(name) for name in (*COMPARED, *SCORES, "worst_family")},
        "parameters": record.outcome["parameters"],
        "ms_per_image": record.outcome["ms_per_image"],
        "hyperparameters": record.hyperparameters,
    }


def trial_rows(study: Study) -> list[dict[str, Any]]:
    """A `trial_row` for each complete trial, in order of their numbers."""
    return [trial_row(study, record) for record in records_of(study) if record.state == "complete"]

"""Rows of the tables that `status` and `compare` show, as plain values for both the terminal and --json."""

from __future__ import annotations

from collections import Counter
from typing import Any

from studies.records import FOREIGN, TrialRecord, best_record
from studies.replicates import replicate_values
from studies.settings import StudySettings
from studies.sqlite_reader import StoredStudy

COSTS = ("parameters", "flops_per_image", "ms_per_image", "weights_mb")
COMPARED = ("accuracy", "macro_precision", "macro_recall")
SCORES = ("macro_f1", "corrupted_macro_f1", "worst_family_macro_f1")
"""Scores by which trials are ranked: on clean images, on corrupted ones, and on the corruption family that is worst."""


def status_row(study: StoredStudy) -> dict[str, Any]:
    """Return a study's row: trials by state, failures by kind, epochs and seconds spent, and the best trial.

    `prefix_cache` describes the cache of frozen layers' output: `trials` that reported its use, `served` by it at least
    once, and `views`, the mean share (0..1) of a trial's training views that it served.
    """
    records = study.records
    states = Counter(record.state for record in records)
    failures = Counter(record.failure["kind"] for record in records if record.failure)
    best = best_record(records)
    shares = [record.outcome["prefix_cache_share"] for record in records if "prefix_cache_share" in record.outcome]
    return {
        "study": study.name,
        **{state: states[state] for state in ("complete", "pruned", "fail", "running", "waiting")},
        FOREIGN: states[FOREIGN],
        "cut_off": sum(record.state == "waiting" and bool(record.epochs) for record in records),
        "failures": dict(failures),
        "epochs": sum(len(record.epochs) for record in records),
        "prefix_cache": {
            "trials": len(shares),
            "served": sum(share > 0 for share in shares),
            "views": sum(shares) / len(shares) if shares else 0.0,
        },
        "precision": study.settings.precision,
        "xla": study.settings.xla,
        "measured": study.settings.measured,
        "seconds": round(sum(record.seconds for record in records), 1),
        "objective": study.settings.objective,
        "best_value": best.value if best else None,
        "best_trial": best.number if best else None,
    }


def foreign_note(study: StoredStudy) -> str:
    """Return a line that names the trials which another program completed; empty if there are none."""
    numbers = [str(record.number) for record in study.records if record.state == FOREIGN]
    if not numbers:
        return ""
    which = f"trial {numbers[0]}" if len(numbers) == 1 else f"trials {', '.join(numbers)}"
    return f"{study.name}: passing over {which}, completed by another program without hpsearch's figures"


def training_text(settings: StudySettings) -> str:
    """Return the training precision and the measurements behind it, in words; empty for unmeasured float32."""
    if not settings.measured.get("steps"):
        return "" if settings.arithmetic == "float32" else f"trained in {settings.arithmetic}"
    rows = [
        f"{row['arithmetic']['precision']}{' with XLA' if row['arithmetic']['xla'] else ''} {row['step_ms']:.1f} ms "
        f"per step, {row['compile_s']:.1f} s compile time"
        for row in settings.measured["steps"]
    ]
    return f"trained in {settings.arithmetic}, measured on {settings.measured['device']}: {'; '.join(rows)}"


def cache_text(settings: StudySettings) -> str:
    """Return when the output of frozen layers is cached and the measurements behind it; empty without measurements."""
    if not (cuts := settings.measured.get("cuts")):
        return ""
    rows = [f"{row['frozen_fraction']:.0%} frozen {row['compute_ms']:.3f} and {row['read_ms']:.3f} ms" for row in cuts]
    where = f" from {settings.prefix_cache_from:.0%} frozen on" if settings.prefix_cache_from else ""
    what = "not cached" if settings.prefix_cache == "off" else f"cached{where}"
    return (
        f"output of frozen layers is {what}; measured on {settings.measured['device']}, compute and read time per "
        f"view: {'; '.join(rows)}"
    )


def costs(record: TrialRecord) -> dict[str, float | None]:
    """Return the costs of a complete trial's network, by the names in COSTS; None for a cost that was not recorded."""
    found = record.outcome | record.outcome.get("cost", {})
    return {name: found.get(name) for name in COSTS}


def trial_row(study: StoredStudy, record: TrialRecord) -> dict[str, Any]:
    """Return the row of a complete trial, with its validation scores; a score that was not measured is None."""
    settings, scores = study.settings, record.outcome["best"]["validation"]
    return {
        "backbone": settings.backbone,
        "study": study.name,
        "fingerprint": settings.fingerprint,
        "trial": record.number,
        "objective": settings.objective,
        "value": record.value,
        "confirmed": _confirmed(study, record.number),
        **{name: scores.get(name) for name in (*COMPARED, *SCORES, "worst_family")},
        "mean_macro_f1": scores.get("mean_macro_f1", scores["macro_f1"]),
        "external": scores.get("external", {}),
        **costs(record),
        "hyperparameters": record.hyperparameters,
    }


def _confirmed(study: StoredStudy, number: int) -> dict[str, Any] | None:
    """Return the mean of the objective over other seeds and their number; None if the trial was not trained again."""
    for row in replicate_values(study.retrained, study.settings.objective):
        if row.trial == number:
            return {"mean": row.mean, "seeds": len(row.values)}
    return None


def trial_rows(study: StoredStudy) -> list[dict[str, Any]]:
    """Return a `trial_row` for each complete trial, in the order of their numbers."""
    return [trial_row(study, record) for record in study.records if record.state == "complete"]

"""Turn what was seen of a run into a row of figures, and rows into the comparison. Part of ../versus.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

REFERENCE, TARGET_SETTERS = "a", ("a", "b")
SWITCHED_OFF = (
    ("prefix cache", "d-no-cache"),
    ("warm workers", "d-cold"),
    ("oneDNN", "d-eigen"),
    ("prefix cache and warm workers", "c"),
)
"""Pairs of a feature of (d) and the system that is (d) without it."""


@dataclass(frozen=True)
class Epoch:
    """One finished epoch of training."""

    trial: int
    time_s: float | None
    """Seconds from the start of the system's process to the end of the epoch, scoring included; None if not seen."""
    images: int
    train_s: float
    """Seconds of training by the system's own clock, without scoring."""


@dataclass(frozen=True)
class Snapshot:
    """Weights at one time, with the system's own value of them."""

    time_s: float
    value: float
    weights: Path


@dataclass(frozen=True)
class Course:
    """Everything that was seen of one run. Times are seconds since its process started."""

    starts: Mapping[int, float]
    """Trial -> time of its start."""
    epochs: Sequence[Epoch]
    snapshots: Sequence[Snapshot]
    trials: int
    """Number of finished trials."""
    first_step_s: Sequence[float]
    """Seconds from a trial's start to the end of its first training step, by the system's own clock."""
    notes: Mapping[str, Any] = field(default_factory=dict)


def new_bests(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Return the snapshots with a higher value than all earlier ones, ordered by time."""
    found: list[Snapshot] = []
    for one in sorted(snapshots, key=lambda one: one.time_s):
        if not found or one.value > found[-1].value:
            found.append(one)
    return found


def start_ups(course: Course) -> list[float]:
    """Return each trial's start-up: the seconds that it costs besides its epochs.

    That is the time from its start to the end of its first epoch, less the shortest time between the ends of two
    consecutive epochs. Trials with fewer than two epochs, or with an epoch that was not seen, are left out.
    """
    result = []
    for trial, start in course.starts.items():
        ends = [epoch.time_s for epoch in course.epochs if epoch.trial == trial]
        seen = [end for end in ends if end is not None]
        if len(ends) < 2 or len(seen) < len(ends):
            continue
        usual = min(after - before for before, after in pairwise(seen))
        result.append(max(0.0, seen[0] - start - usual))
    return result


def row_of(course: Course, total_s: float, peak_memory_mb: float) -> dict[str, Any]:
    """Return the figures of one run, without its scores on the fold."""
    images = sum(epoch.images for epoch in course.epochs)
    training_s = sum(epoch.train_s for epoch in course.epochs)
    return {
        "total_s": total_s,
        "trials": course.trials,
        "epochs": len(course.epochs),
        "trials_per_hour": 3600 * course.trials / total_s,
        "images_per_s": images / training_s if training_s else 0.0,
        "images_per_s_of_all": images / total_s,
        "start_up_s": _median(start_ups(course)),
        "first_step_s": _median(course.first_step_s),
        "peak_memory_mb": peak_memory_mb,
        **course.notes,
    }


def target_of(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the higher of the peers' final macro-F1 on the fold, medians over seeds; None without peers."""
    finals: dict[str, list[float]] = {}
    for row in rows:
        if row["system"] in TARGET_SETTERS:
            finals.setdefault(row["system"], []).append(final_score(row))
    return max((statistics.median(scores) for scores in finals.values()), default=None)


def final_score(row: Mapping[str, Any]) -> float:
    """Return the fold's macro-F1 of the model with the system's own best value; 0 without a model."""
    return float(row["curve"][-1]["macro_f1"]) if row["curve"] else 0.0


def time_to(row: Mapping[str, Any], target: float) -> tuple[float, bool]:
    """Return the seconds until the best model so far reaches the target on the fold, and whether one does.

    If none does, these are the seconds of the whole run.
    """
    for point in row["curve"]:
        if point["macro_f1"] >= target:
            return float(point["time_s"]), True
    return float(row["total_s"]), False


FIGURES = ("trials_per_hour", "images_per_s", "images_per_s_of_all", "start_up_s", "peak_memory_mb", "total_s")


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a summary of each system, medians over its seeds.

    Returns:
        Dicts with `system`, `runs`, `score`, `time_s` to the target, `reached` (runs that reached it), `speed` (how
        many times as fast as (a) to the target) and FIGURES. Without (a) and (b) there is no target.
    """
    target = target_of(rows)
    result = []
    for system in sorted({str(row["system"]) for row in rows}):
        own = [row for row in rows if row["system"] == system]
        times = [time_to(row, target) for row in own] if target is not None else []
        result.append(
            {
                "system": system,
                "runs": len(own),
                "score": statistics.median(map(final_score, own)),
                "time_s": _median([time for time, _ in times]),
                "reached": sum(done for _, done in times),
                **{name: _median([row[name] for row in own if row[name] is not None]) for name in FIGURES},
            }
        )
    reference = next((one["time_s"] for one in result if one["system"] == REFERENCE), None)
    for one in result:
        one["speed"] = reference / one["time_s"] if reference and one["time_s"] else None
    return result


def shares(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each feature of (d) how many times as long the system without it takes.

    Returns:
        Dicts with `without` (the feature), `to_target` and `whole` (medians), and `seeds` that both systems have.
    """
    target, result = target_of(rows), []
    of = {(row["system"], row["seed"]): row for row in rows}
    for feature, without in SWITCHED_OFF:
        pairs = [(row, of["d", seed]) for (system, seed), row in of.items() if system == without and ("d", seed) in of]
        if pairs and target is not None:
            to_target = [time_to(off, target)[0] / time_to(on, target)[0] for off, on in pairs]
            whole = [off["total_s"] / on["total_s"] for off, on in pairs]
            medians = {"to_target": statistics.median(to_target), "whole": statistics.median(whole)}
            result.append({"without": feature, "seeds": len(pairs)} | medians)
    return result


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None

"""Train a finished trial once more, in a separate folder, and compare it with the stored results."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from search.engine.job import CORRUPTED_FILE, PROBABILITIES_FILE, WEIGHTS_FILE
from search.engine.worker import Worker
from search.errors import SearchError
from search.winners.finished_trial import FinishedTrial

PROBABILITIES = {PROBABILITIES_FILE: "probabilities", CORRUPTED_FILE: "probabilities, corrupted"}


@dataclass(frozen=True)
class FigureDifference:
    """Difference in one kind of figure between both trainings."""

    figure: str
    values: int
    """Number of values compared."""
    largest_difference: float
    """Largest absolute difference; infinite if the shapes differ or a difference is not finite."""


@dataclass(frozen=True)
class Comparison:
    """Differences between a trial and its repetition."""

    rows: tuple[FigureDifference, ...]
    """Differences by kind of figure, the objective's value first."""
    same_bits: bool
    """Whether the kept weights are identical bit by bit."""

    @property
    def largest(self) -> float:
        return max((row.largest_difference for row in self.rows), default=0.0)


def rerun_trial(one: FinishedTrial, worker: Worker, scratch: Path, say: Callable[[str], None]) -> Comparison:
    """Train a trial again and compare the results. Its new files stay in `scratch`.

    A pruned trial is trained up to the epoch after which it was pruned.

    Raises:
        SearchError: The training fails.
    """
    stored = one.record.epochs
    again: list[dict[str, Any]] = []

    def on_epochs(figures: list[dict[str, Any]]) -> bool:
        again.extend(figures)
        for row in figures:
            before = next((old["value"] for old in stored if old["step"] == row["step"]), None)
            was = "none" if before is None else f"{before:.4f}"
            say(f"epoch {row['step'] + 1} of {len(stored)}: {row['value']:.4f}, before {was}")
        return one.record.state == "pruned" and len(again) >= len(stored)

    end = worker.train(replace(one.job, folder=str(scratch.resolve())), on_epochs)
    if end["event"] != "done":
        raise SearchError(f"trial {one.record.number} could not be repeated, {end['kind']}: {end['message']}")
    value = end["outcome"]["best"]["value"] if one.record.state == "complete" else max(row["value"] for row in again)
    rows = [
        _row("value", [one.record.value], [value]),
        *(_row(title, _all(stored, key), _all(again, key)) for key, title in EPOCH_FIGURES.items()),
        *(_files(title, Path(one.job.folder) / name, scratch / name) for name, title in PROBABILITIES.items()),
    ]
    same = one.record.outcome.get("weights_sha256") == end["outcome"]["weights_sha256"]
    return Comparison(tuple(row for row in rows if row.values), same)


EPOCH_FIGURES = {"value": "value of each epoch", "training_loss": "training loss of each epoch"}


def _all(epochs: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [row[key] for row in epochs if key in row]


def _row(title: str, stored: Sequence[Any] | np.ndarray, again: Sequence[Any] | np.ndarray) -> FigureDifference:
    first, second = np.asarray(stored, float), np.asarray(again, float)
    if first.shape != second.shape:
        return FigureDifference(title, max(first.size, second.size), inf)
    difference = float(np.abs(first - second).max(initial=0.0))
    return FigureDifference(title, first.size, difference if np.isfinite(difference) else inf)


def _files(title: str, stored: Path, again: Path) -> FigureDifference:
    """Compare two files; without either of them, as for a pruned trial, no values are compared."""
    if not (stored.is_file() and again.is_file()):
        return FigureDifference(title, 0, 0.0)
    return _row(title, np.load(stored, allow_pickle=False), np.load(again, allow_pickle=False))


def restore(scratch: Path, folder: Path) -> None:
    """Move weights and probabilities from `scratch` into a trial's folder, which must be on the same disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*PROBABILITIES, WEIGHTS_FILE):
        if (scratch / name).exists():
            os.replace(scratch / name, folder / name)

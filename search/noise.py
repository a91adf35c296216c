"""Which differences between trials are real: standard errors from retrainings, from the images, or a rule of thumb."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.prepared import PreparedSet
from models.intervals import Resampling
from models.resampled_f1 import ResampledF1
from search.job import CORRUPTED_FILE, PROBABILITIES_FILE, trial_folder
from search.workspace import Workspace
from studies.tables import SCORES

TIE_STANDARD_ERRORS = 1.96
SEED_NOISE = 0.003
"""Standard deviation between seeds where nothing better is known: the upper end of what MedMNIST+ (arXiv 2404.15786)
reports for BloodMNIST."""
AT_ONCE = 8
BEST, TIE = "best", "tie"
BY_SEEDS = "retrainings on other seeds"
BY_IMAGES = "bootstrap over the validation images"
BY_RULE = f"a seed noise of {100 * SEED_NOISE:.1f} points, assumed"


@dataclass
class Noise:
    """Standard errors of differences between two trials on the same prepared set.

    Attributes:
        workspace: where their probabilities lie.
        rows: all that are to be compared, of studies.tables.
        by_seeds: study -> figure -> standard deviation between seeds, of studies with retrainings.
        used: the sources that were drawn on so far.
    """

    workspace: Workspace
    rows: Sequence[Mapping[str, Any]]
    by_seeds: Mapping[str, Mapping[str, float]]
    used: set[str] = field(default_factory=set)

    def standard_error(self, figure: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
        """Of the difference in a figure between two of the rows, by the best source there is."""
        spreads = [self.by_seeds.get(row["study"], {}).get(figure) for row in (first, second)]
        known = [spread for spread in spreads if spread is not None]
        if known:  # a study that was not confirmed is taken to be as noisy as the other
            self.used.add(BY_SEEDS)
            return hypot(known[0], known[-1])
        resampled = [self._images.of(figure, row) if self._images else None for row in (first, second)]
        if resampled[0] is not None and resampled[1] is not None:
            self.used.add(BY_IMAGES)
            return float(np.std(resampled[0] - resampled[1]))
        self.used.add(BY_RULE)
        return hypot(SEED_NOISE, SEED_NOISE)

    @cached_property
    def _images(self) -> _Images | None:
        try:
            return _Images(self.workspace, PreparedSet.open(self.workspace.prepared), self.rows)
        except DataError:
            return None


class _Images:
    """Figures of trials over the same resamples of the validation images, so that differences are paired."""

    def __init__(self, workspace: Workspace, prepared: PreparedSet, rows: Iterable[Mapping[str, Any]]) -> None:
        self._found: dict[tuple[str, str, int], np.ndarray] = {}
        mine = [row for row in rows if row["fingerprint"] == prepared.fingerprint]
        resampling = Resampling(prepared.labels("validation"), len(prepared.class_names))
        clean = np.ones((len(resampling.labels), 1), bool)
        for some, (found,) in _resampled(workspace, PROBABILITIES_FILE, mine, ResampledF1(resampling, [clean])):
            self._keep("macro_f1", some, found)
        if views := prepared.corrupted("validation"):
            families = [taken for taken in views.families.values() if taken.any()]
            sets = ResampledF1(resampling, [np.ones(views.images.shape[:2], bool), *families])
            for some, (found, *by_family) in _resampled(workspace, CORRUPTED_FILE, mine, sets):
                self._keep("corrupted_macro_f1", some, found)
                self._keep("worst_family_macro_f1", some, np.min(by_family, axis=0))

    def of(self, figure: str, row: Mapping[str, Any]) -> np.ndarray | None:
        """(resamples,); None where the trial's probabilities are gone or on other images."""
        return self._found.get((figure, row["study"], row["trial"]))

    def _keep(self, figure: str, rows: Sequence[Mapping[str, Any]], found: np.ndarray) -> None:
        self._found |= {(figure, row["study"], row["trial"]): one.copy() for row, one in zip(rows, found, strict=True)}


def _resampled(
    workspace: Workspace, name: str, rows: Sequence[Mapping[str, Any]], sets: ResampledF1
) -> Iterator[tuple[Sequence[Mapping[str, Any]], np.ndarray]]:
    """Some rows at a time whose trials have left probabilities under this name, with their (sets, rows, resamples)."""
    paths = [trial_folder(workspace.trials, row["study"], row["trial"]) / name for row in rows]
    there = [(row, path) for row, path in zip(rows, paths, strict=True) if path.is_file()]

    def look(some: Sequence[tuple[Mapping[str, Any], Path]]) -> tuple[Sequence[Mapping[str, Any]], np.ndarray]:
        guesses = np.stack([np.load(path, allow_pickle=False).argmax(axis=-1) for _, path in some])
        return [row for row, _ in some], sets.of(guesses.reshape(*guesses.shape[:2], -1))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy and SciPy let other threads work meanwhile
        yield from pool.map(look, [there[start : start + AT_ONCE] for start in range(0, len(there), AT_ONCE)])


def mark_ties(rows: Sequence[dict[str, Any]], noise: Noise) -> None:
    """Adds `standing` to each row: per figure of SCORES whether it is the best of these rows, or a tie with it.

    A tie differs from the best by less than TIE_STANDARD_ERRORS standard errors of the difference.
    """
    for row in rows:
        row["standing"] = {}
    for figure in SCORES:
        measured = [row for row in rows if row[figure] is not None]
        if not measured:
            continue
        best = max(measured, key=lambda row: row[figure])
        best["standing"][figure] = BEST
        for row in measured:
            if row is not best:
                limit = TIE_STANDARD_ERRORS * noise.standard_error(figure, best, row)
                row["standing"][figure] = TIE if best[figure] - row[figure] <= limit else None

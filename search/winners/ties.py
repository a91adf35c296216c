"""Tell real differences between trials from ties.

Standard errors come from retrainings, from resampled validation images, or from a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.storage.machine import processors
from data_prep.storage.reader import PreparedSet
from models.scoring.intervals import RESAMPLES, Resampling
from models.scoring.resampled_f1 import ResampledF1
from search.engine.job import CORRUPTED_FILE, PROBABILITIES_FILE, trial_folder
from search.workspace import Workspace
from studies.trial_tables import SCORES

TIE_STANDARD_ERRORS = 1.96
SEED_NOISE = 0.003
"""Standard deviation between seeds, assumed where none was measured: the upper end of the values that MedMNIST+ (arXiv
2404.15786) reports for BloodMNIST."""
FEW_RESAMPLES, CLEAR_FACTOR = 200, 2.0
"""Number of resamples for a first look, and the factor: a difference this many times above or below its limit in the
first look needs no second one."""
TRIALS_AT_ONCE = 16
BEST, TIE = "best", "tie"
BY_SEEDS = "retrainings on other seeds"
BY_IMAGES = "bootstrap over the validation images"
BY_RULE = f"an assumed standard deviation of {100 * SEED_NOISE:.1f} points between seeds"


Key = tuple[str, int]
"""Name of a study and number of a trial."""
Row = Mapping[str, Any]
"""Row of a trial, as in studies.trial_tables."""


@dataclass
class DifferenceNoise:
    """Standard errors of differences between trials on the same prepared set.

    Attributes:
        workspace: Workspace with the trials' validation probabilities.
        by_seeds: Study -> figure -> standard deviation between seeds, for studies with retrainings.
        used: Sources used so far: BY_SEEDS, BY_IMAGES, BY_RULE.
    """

    workspace: Workspace
    by_seeds: Mapping[str, Mapping[str, float]]
    used: set[str] = field(default_factory=set)

    def standard_errors(self, figure: str, best: Row, rows: Sequence[Row]) -> list[float]:
        """Return the standard error of the difference in a figure between `best` and each row, from the best source.

        The sources, best first, are retrainings on other seeds, resampled validation images, and SEED_NOISE.
        """
        seeds = [self._by_seeds(figure, best, row) for row in rows]
        others = [row for row, found in zip(rows, seeds, strict=True) if found is None]
        images = self._images.standard_errors(figure, best, others) if others and self._images else {}
        errors = []
        for row, by_seeds in zip(rows, seeds, strict=True):
            by_images = images.get(_key(row))
            self.used.add(BY_SEEDS if by_seeds is not None else BY_IMAGES if by_images is not None else BY_RULE)
            known = by_seeds if by_seeds is not None else by_images
            errors.append(hypot(SEED_NOISE, SEED_NOISE) if known is None else known)
        return errors

    def _by_seeds(self, figure: str, first: Row, second: Row) -> float | None:
        spreads = [self.by_seeds.get(row["study"], {}).get(figure) for row in (first, second)]
        known = [spread for spread in spreads if spread is not None]
        # A study without retrainings is assumed to be as noisy as the other one.
        return hypot(known[0], known[-1]) if known else None

    @cached_property
    def _images(self) -> _Images | None:
        try:
            return _Images(self.workspace, PreparedSet.open(self.workspace.prepared))
        except DataError:
            return None


class _Images:
    """Figures of trials on the same resamples of the validation images, so that differences are paired."""

    def __init__(self, workspace: Workspace, prepared: PreparedSet) -> None:
        self._workspace, self._fingerprint = workspace, prepared.fingerprint
        labels, groups = prepared.labels("validation"), prepared.groups("validation")
        self._resampling = Resampling(labels, len(prepared.class_names), groups=groups)
        self._sets = {PROBABILITIES_FILE: [np.ones((len(self._resampling.labels), 1), bool)]}
        if views := prepared.corrupted("validation"):
            families = [taken for taken in views.families.values() if taken.any()]
            self._sets[CORRUPTED_FILE] = [np.ones(views.images.shape[:2], bool), *families]
        self._found: dict[tuple[str, int], dict[Key, np.ndarray]] = {}

    def standard_errors(self, figure: str, best: Row, rows: Sequence[Row]) -> dict[Key, float]:
        """Return the standard error by row, without rows whose probabilities are missing or are of other images.

        FEW_RESAMPLES give a standard error to within about a tenth. All resamples are drawn only where the difference
        is near TIE_STANDARD_ERRORS.
        """
        found = self._compared(figure, best, rows, FEW_RESAMPLES)
        near = []
        for row in rows:
            limit = TIE_STANDARD_ERRORS * found.get(_key(row), 0.0)
            if limit / CLEAR_FACTOR < best[figure] - row[figure] < limit * CLEAR_FACTOR:
                near.append(row)
        return found | self._compared(figure, best, near, RESAMPLES)

    def _compared(self, figure: str, best: Row, rows: Sequence[Row], resamples: int) -> dict[Key, float]:
        name = PROBABILITIES_FILE if figure == "macro_f1" else CORRUPTED_FILE
        known = self._found.setdefault((name, resamples), {})
        mine = [row for row in (best, *rows) if row["fingerprint"] == self._fingerprint and _key(row) not in known]
        known |= self._resampled(name, mine, resamples)
        if _key(best) not in known:
            return {}
        place = 1 if figure == "worst_family_macro_f1" else 0
        own = known[_key(best)][place]
        return {_key(row): float(np.std(own - known[_key(row)][place])) for row in rows if _key(row) in known}

    def _resampled(self, name: str, rows: Sequence[Row], resamples: int) -> dict[Key, np.ndarray]:
        """Return macro-F1 on each resample, float64 (2, resamples), for each trial that stored probabilities.

        The first row is over all images or views, the second over the corruption family where it is lowest.

        Args:
            name: File of the probabilities.
        """
        paths = [trial_folder(self._workspace.trials, row["study"], row["trial"]) / name for row in rows]
        there = [(_key(row), path) for row, path in zip(rows, paths, strict=True) if path.is_file()]
        if not there or name not in self._sets:
            return {}
        sets = ResampledF1(self._resampling, self._sets[name], resamples)

        def look(some: Sequence[tuple[Key, Path]]) -> dict[Key, np.ndarray]:
            guesses = np.stack([np.load(path, allow_pickle=False).argmax(axis=-1) for _, path in some])
            found = sets.of(guesses.reshape(*guesses.shape[:2], -1))
            by_family = found[1:] if len(found) > 1 else found
            both = np.stack([found[0], by_family.min(axis=0)], axis=1)
            return {key: one for (key, _), one in zip(some, both, strict=True)}

        with ThreadPoolExecutor(processors()) as pool:  # NumPy and SciPy release the GIL
            parts = pool.map(
                look, [there[start : start + TRIALS_AT_ONCE] for start in range(0, len(there), TRIALS_AT_ONCE)]
            )
        return {key: one for part in parts for key, one in part.items()}


def _key(row: Row) -> Key:
    return row["study"], row["trial"]


def mark_ties(rows: Sequence[dict[str, Any]], noise: DifferenceNoise) -> None:
    """Add `standing` to each row: for each measured figure of SCORES, BEST, TIE (with the best of these rows) or None.

    A tie differs from the best by at most TIE_STANDARD_ERRORS standard errors of the difference.
    """
    for row in rows:
        row["standing"] = {}
    for figure in SCORES:
        measured = [row for row in rows if row[figure] is not None]
        if not measured:
            continue
        best = max(measured, key=lambda row: row[figure])
        best["standing"][figure] = BEST
        others = [row for row in measured if row is not best]
        for row, error in zip(others, noise.standard_errors(figure, best, others), strict=True):
            row["standing"][figure] = TIE if best[figure] - row[figure] <= TIE_STANDARD_ERRORS * error else None

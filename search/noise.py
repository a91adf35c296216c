"""Which differences between trials are real: standard errors from retrainings, from the images, or a rule of thumb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import hypot
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.prepared import PreparedSet
from models.intervals import Resampling
from search.job import CORRUPTED_FILE, PROBABILITIES_FILE, trial_folder
from search.workspace import Workspace
from studies.tables import SCORES

TIE_STANDARD_ERRORS = 1.96
SEED_NOISE = 0.003
"""Standard deviation between seeds where nothing better is known: the upper end of what MedMNIST+ (arXiv 2404.15786)
reports for BloodMNIST."""
BEST, TIE = "best", "tie"
BY_SEEDS = "retrainings on other seeds"
BY_IMAGES = "bootstrap over the validation images"
BY_RULE = f"a seed noise of {100 * SEED_NOISE:.1f} points, assumed"


@dataclass
class Noise:
    """Standard errors of differences between two trials on the same prepared set.

    Attributes:
        workspace: where their probabilities lie.
        by_seeds: study -> figure -> standard deviation between seeds, of studies with retrainings.
        used: the sources that were drawn on so far.
    """

    workspace: Workspace
    by_seeds: Mapping[str, Mapping[str, float]]
    used: set[str] = field(default_factory=set)

    def standard_error(self, figure: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
        """Of the difference in a figure between two rows of studies.tables, by the best source there is."""
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
            return _Images(self.workspace, PreparedSet.open(self.workspace.prepared))
        except DataError:
            return None


class _Images:
    """Figures of trials over the same resamples of the validation images, so that differences are paired."""

    def __init__(self, workspace: Workspace, prepared: PreparedSet) -> None:
        self.workspace, self.fingerprint = workspace, prepared.fingerprint
        views = prepared.corrupted("validation")
        self.families = [taken for taken in views.families.values() if taken.any()] if views else []
        self.resampling = Resampling(prepared.labels("validation"), len(prepared.class_names))

    def of(self, figure: str, row: Mapping[str, Any]) -> np.ndarray | None:
        """(resamples,); None where the trial's probabilities are gone or on other images."""
        folder = trial_folder(self.workspace.trials, row["study"], row["trial"])
        file = folder / (PROBABILITIES_FILE if figure == "macro_f1" else CORRUPTED_FILE)
        if row["fingerprint"] != self.fingerprint or not file.is_file():
            return None
        guesses = np.load(file, allow_pickle=False).argmax(axis=-1)
        if figure != "worst_family_macro_f1":
            return self.resampling.figures(guesses).macro_f1
        worst: np.ndarray = np.min(
            [self.resampling.figures(guesses, taken).macro_f1 for taken in self.families], axis=0
        )
        return worst


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

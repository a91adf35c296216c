"""Score a model on the images of a split and on their corrupted views, for the export and `evaluate --test`.

To show figures of further images, add a row to PARTS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.storage.reader import PreparedSet, corrupted_file, external_file

if TYPE_CHECKING:  # importing scikit-learn and scipy takes a second
    from models.scoring.export_figures import Scored
    from models.scoring.trust import Trust

Predict = Callable[[Sequence[Path]], Sequence[np.ndarray]]
"""Files of uint8 images (..., h, w, 3) -> raw probabilities float32 (k, classes) for each file, all views in order."""


@dataclass(frozen=True)
class ScoredPart:
    """Images of one split, clean or corrupted.

    Attributes:
        split: "validation" or "test", or EXTERNAL.
        key: Key of the part among the figures of its split: "" for the clean images, the name of an external set.
        used_by: Which corruptions of data_prep.corruption.operations were applied: those used by "validation" or by
            "test"; "" for none.
        title: Name of the part in tables.
    """

    split: str
    key: str
    used_by: str
    title: str

    def scored(self, prepared: PreparedSet, probabilities: np.ndarray) -> Scored:
        """Return the part's labels, groups and families with a model's probabilities (k, classes), views in order."""
        from models.scoring.export_figures import Scored

        if self.split == EXTERNAL:
            return Scored(prepared.external(self.key)[1], probabilities)
        labels, groups = prepared.labels(self.split), prepared.groups(self.split)
        views = prepared.corrupted(self.split, self.used_by) if self.used_by else None
        if views is None:
            return Scored(labels, probabilities, groups=groups)
        families = {name: taken for name, taken in views.families.items() if taken.any()}
        return Scored(labels, probabilities.reshape(*views.images.shape[:2], -1), families, groups)

    def file(self, prepared: PreparedSet) -> Path:
        """Return the path of the part's images in the prepared set."""
        if self.split == EXTERNAL:
            return prepared.folder / external_file(self.key, "_images.npy")
        name = corrupted_file(self.split, self.used_by) if self.used_by else f"{self.split}_images.npy"
        return prepared.folder / name


EXTERNAL = "external"
CORRUPTED, TEST_ONLY = "corrupted", "test_only_corrupted"
PARTS = (
    ScoredPart("validation", "", "", "validation"),
    ScoredPart("validation", CORRUPTED, "validation", "validation, corrupted"),
    ScoredPart("test", "", "", "test"),
    ScoredPart("test", CORRUPTED, "validation", "test, known corruptions"),
    ScoredPart("test", TEST_ONLY, "test", "test, unseen corruptions"),
)


def external_parts(names: Iterable[str]) -> list[ScoredPart]:
    """Return a part for each of these external sets."""
    return [ScoredPart(EXTERNAL, name, "", f"external: {name}") for name in names]


def score_split(prepared: PreparedSet, split: str, predict: Predict) -> dict[str, Scored]:
    """Return the scored parts of a split by key; for EXTERNAL, the external sets by name.

    Parts whose corrupted views the prepared set lacks are left out.
    """
    every = (*PARTS, *external_parts(prepared.external_names))
    parts = [part for part in every if part.split == split and (not part.used_by or _there(prepared, part))]
    found = predict([part.file(prepared) for part in parts]) if parts else []
    return {part.key: part.scored(prepared, rows) for part, rows in zip(parts, found, strict=True)}


def _there(prepared: PreparedSet, part: ScoredPart) -> bool:
    return prepared.corrupted(part.split, part.used_by) is not None


def fit_on(scored: Mapping[str, Scored]) -> Trust:
    """Fit temperature and thresholds on the validation images together with their corrupted views."""
    from models.scoring.trust import fit_trust

    labels, probabilities = zip(*(part.flat() for part in scored.values()), strict=True)
    return fit_trust(np.concatenate(labels), np.concatenate(probabilities))


def figures_of(scored: Mapping[str, Scored], class_names: tuple[str, ...], trust: Trust | None) -> dict[str, Any]:
    """Return the `full_figures` of each part: those of the clean images themselves, the others under their keys."""
    from models.scoring.export_figures import full_figures

    rows = {key: full_figures(part, class_names, trust) for key, part in scored.items()}
    return rows.pop("") | rows


def operations(prepared: PreparedSet) -> dict[str, list[str]]:
    """Return the names of the corruptions, by use: "validation" or "test". Empty without corrupted views."""
    rows = prepared.manifest.get("corrupted", {}).get("operations", {})
    users = {row["used_by"] for row in rows.values()}
    return {user: [name for name, row in rows.items() if row["used_by"] == user] for user in sorted(users)}


def parts_in(metrics: Mapping[str, Any]) -> list[tuple[ScoredPart, dict[str, Any]]]:
    """Return the parts with stored figures, in the order of PARTS, then the external sets.

    Args:
        metrics: Figures by split.
    """
    rows = []
    for part in (*PARTS, *external_parts(metrics.get(EXTERNAL, {}))):
        figures = metrics.get(part.split)
        figures = figures.get(part.key) if figures and part.key else figures
        if figures:
            rows.append((_titled(part, metrics), figures))
    return rows


def _titled(part: ScoredPart, metrics: Mapping[str, Any]) -> ScoredPart:
    """Mark validation figures of a refitted model as those from before the refit: it has none of its own."""
    before = part.split == "validation" and metrics.get("refit")
    return replace(part, title=f"{part.title}, before refit") if before else part


def families_in(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per part and family of corruptions: `images_of` (the part's title), `family` and its figures."""
    return [
        {"images_of": part.title, "family": name, **row}
        for part, figures in parts_in(metrics)
        for name, row in figures.get("families", {}).items()
    ]


def gaps(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return validation minus test macro-F1 with its 95 % interval, on clean images and under the same corruptions.

    `beyond_chance` says that the whole interval is above 0. The list is empty for figures stored without intervals, and
    for a refitted model, whose validation figures are those of the trial before the refit.
    """
    from models.scoring.intervals import difference_interval

    inside = {split: metrics.get(split) for split in ("validation", "test")}
    rows: list[dict[str, Any]] = []
    for key, title in () if metrics.get("refit") else (("", "clean"), (CORRUPTED, "corrupted")):
        both = [figures for part, figures in parts_in(inside) if part.key == key and "intervals" in figures]
        if len(both) == 2:
            (first, first_interval), (second, second_interval) = (
                (figures["macro_f1"], figures["intervals"]["macro_f1"]) for figures in both
            )
            low, high = difference_interval(first, first_interval, second, second_interval)
            row = {"images": title, "gap": first - second, "interval": [low, high], "beyond_chance": low > 0}
            rows.append(row)
    return rows


ESTIMATES = ("estimated_accuracy", "thresholded_confidence", "mean_confidence")


def estimate_errors(test: Mapping[str, Any]) -> dict[str, Any]:
    """Return the errors of label-free estimates of accuracy on blocks of test images.

    The clean test images are one block, each family of corrupted ones is another.

    Returns:
        `blocks` with a row for each block, and for each of ESTIMATES its `mean` and `largest` absolute error, 0..1.
        Empty if nothing was estimated.
    """
    parts = parts_in({"test": test})
    rows = [{"block": part.title, **figures} for part, figures in parts if part.key == ""]
    rows += [{"block": f"{row['images_of']}: {row['family']}", **row} for row in families_in({"test": test})]
    shown = ("block", "images", "accuracy", *ESTIMATES)
    blocks = [{name: row[name] for name in shown} for row in rows if set(ESTIMATES) <= row.keys()]
    if not blocks:
        return {}
    errors = {name: [abs(block[name] - block["accuracy"]) for block in blocks] for name in ESTIMATES}
    return {"blocks": blocks} | {
        name: {"mean": float(np.mean(found)), "largest": max(found)} for name, found in errors.items()
    }

"""Try variants of the exported model: the average of several networks, or of several orientations of an image.

A variant is kept only if it scores higher on the corrupted validation images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.storage.reader import PreparedSet
from search.engine.job import CORRUPTED_FILE, PROBABILITIES_FILE, WEIGHTS_FILE, trial_folder
from search.errors import SearchError
from search.exporting.scored_parts import CORRUPTED, score_split
from search.winners.best_trial import Winner, best_members
from search.workspace import Workspace
from studies.settings import StudySettings

if TYPE_CHECKING:
    from models.formats.keras_file import Member
    from models.scoring.export_figures import Scored

AGREEMENT = 1e-4
"""Largest difference allowed between a probability of the reloaded model and the one that the worker stored."""


@dataclass(frozen=True)
class ExportExtras:
    """Variants that `export-best` tries besides the winner itself."""

    average: int = 1
    """Number of best trials whose probabilities are averaged; 1 for no average."""
    joins: Callable[[StudySettings], bool] = lambda settings: True
    """Test of whether trials of a study may join the average."""
    orientations: bool = False
    """Whether to average over each image turned and mirrored (test-time augmentation)."""
    refit: Callable[[Winner], Winner] | None = None
    """Function that trains a chosen trial anew on training and validation images; None for no refit."""


@dataclass(frozen=True)
class Variant:
    """One model that could be exported."""

    members: tuple[Winner, ...]
    orientations: bool = False

    @property
    def title(self) -> str:
        trials = ", ".join(f"{one.settings.name} {one.record.number}" for one in self.members)
        how = (", turned" if self.orientations else "") + (", refitted" if self.is_refitted else "")
        return f"trial{'s' if len(self.members) > 1 else ''} {trials}{how}"

    @property
    def is_refitted(self) -> bool:
        return all(one.refit is not None for one in self.members)


@dataclass(frozen=True)
class Candidate:
    """A variant written to a file and scored on the validation images."""

    variant: Variant
    file: Path
    validation: Mapping[str, Scored]
    difference: float
    """Largest difference between a probability of the reloaded model and the mean of the stored ones; with
    orientations, the difference for the same networks without them."""

    def scores(self) -> dict[str, float]:
        """Return macro-F1 on the validation images, by the keys of `score_split`."""
        from models.scoring.metrics import figures

        return {key: float(figures(*scored.flat())["macro_f1"]) for key, scored in self.validation.items()}

    @property
    def decisive(self) -> float:
        """Score that decides: macro-F1 on the corrupted validation images, or on the clean ones without any."""
        scores = self.scores()
        return scores.get(CORRUPTED, scores[""])


@dataclass(frozen=True)
class Chooser:
    """The choice among the variants of one export, which it builds and scores in a scratch folder."""

    workspace: Workspace
    prepared: PreparedSet
    scratch: Path

    def choose(self, winner: Winner, extras: ExportExtras) -> tuple[Candidate, list[dict[str, Any]]]:
        """Return the best candidate, and a row for each candidate: `model`, `clean`, `corrupted`, `kept`.

        Raises:
            SearchError: The probabilities of a reloaded model differ by more than AGREEMENT from the stored ones.
        """
        best = self._candidate(Variant((winner,)))
        tried = [best]
        if extras.average > 1:
            members = best_members(self.workspace, extras.joins, winner, extras.average)
            tried += [self._candidate(Variant(members))] if len(members) > 1 else []
            best = max(tried, key=lambda one: one.decisive)
        if extras.orientations:
            tried.append(self._candidate(Variant(best.variant.members, True), best.difference))
            best = max(tried, key=lambda one: one.decisive)
        rows = []
        for one in tried:
            scores = one.scores()
            row = {"model": one.variant.title, "clean": scores[""], "corrupted": scores.get(CORRUPTED)}
            rows.append(row | {"kept": "yes" if one is best else "no"})
        return best, rows

    def refitted(self, chosen: Candidate, refit: Callable[[Winner], Winner]) -> Candidate:
        """Return the same variant with networks trained anew on training and validation images.

        It has trained on the validation images, so scores on them only check the reloading. Its `validation` is
        therefore that of the chosen candidate.
        """
        members = tuple(refit(one) for one in chosen.variant.members)
        done = self._candidate(Variant(members))
        if chosen.variant.orientations:
            done = self._candidate(Variant(members, True), done.difference)
        return replace(done, validation=chosen.validation)

    def _candidate(self, variant: Variant, known_difference: float | None = None) -> Candidate:
        from models.formats.keras_file import save_model

        file = self.scratch / f"{len(list(self.scratch.glob('*.keras')))}.keras"
        save_model([self._member(one) for one in variant.members], file, variant.orientations)
        validation = score_split(self.prepared, "validation", lambda files: self.predict(file, files))
        folders = [stored_folder(self.workspace, one) for one in variant.members]
        difference = _difference(validation, folders) if known_difference is None else known_difference
        if not difference <= AGREEMENT:
            raise SearchError(
                f"after reloading, a probability differs from training by {difference:.2g}, more than the allowed "
                f"{AGREEMENT}: nothing was exported. This is a bug of hpsearch or a damaged file in "
                f"{', '.join(map(str, folders))}"
            )
        return Candidate(variant, file, validation, difference)

    def predict(self, model: Path, files: Sequence[Path]) -> list[np.ndarray]:
        """Return the model's probabilities for each file of images, computed in a fresh process."""
        from models.formats.conversion import predict_in_fresh_process

        return predict_in_fresh_process(model, files, self.scratch)

    def _member(self, one: Winner) -> Member:
        from models.backbones.user_networks import ready_backbone
        from models.formats.keras_file import Member
        from models.networks.classifier import ClassifierSettings

        own, classes = one.settings.own_backbone, len(self.prepared.class_names)
        backbone = ready_backbone(one.settings.backbone, own, self.workspace.backbone_file(own))
        chosen = one.record.hyperparameters
        resolution = int(chosen.get("resolution", 0))  # absent in trials of earlier versions
        network = ClassifierSettings(backbone, one.settings.weights, self.prepared.image_shape, classes, resolution)
        weights = stored_folder(self.workspace, one) / WEIGHTS_FILE
        return Member(network, chosen["dropout"], weights)


def stored_folder(workspace: Workspace, one: Winner) -> Path:
    """Return the folder where a trial, or its refit, left weights and probabilities."""
    return one.refit or trial_folder(workspace.trials, one.settings.name, one.record.number)


def identity(workspace: Workspace, variant: Variant) -> str:
    """Return a SHA-256 that identifies the variant's predictions.

    For a single trial it is the hash of its weights; for several trials or orientations, one over the weights' hashes
    and the orientations.
    """
    digests = [
        hashlib.sha256((stored_folder(workspace, one) / WEIGHTS_FILE).read_bytes()).hexdigest()
        for one in variant.members
    ]
    if len(digests) == 1 and not variant.orientations:
        return digests[0]
    return hashlib.sha256(" ".join([*sorted(digests), str(variant.orientations)]).encode()).hexdigest()


def _difference(validation: Mapping[str, Scored], folders: Sequence[Path]) -> float:
    """Return the largest difference from stored probabilities; studies of earlier versions stored no corrupted ones."""
    names = {"": PROBABILITIES_FILE, CORRUPTED: CORRUPTED_FILE}
    largest = []
    for key, scored in validation.items():
        files = [folder / names[key] for folder in folders]
        if key == "" or all(file.exists() for file in files):
            stored = np.mean([np.load(file, allow_pickle=False) for file in files], axis=0)
            largest.append(np.abs(scored.probabilities - stored).max())
    return float(np.max(largest))

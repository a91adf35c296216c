"""More than one network, or more than one look at an image, in the exported model: tried, and kept only when the
corrupted validation images say so."""

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
"""Largest difference between a probability of the reloaded model and what the workers stored."""


@dataclass(frozen=True)
class ExportExtras:
    """What `export-best` is to try besides the winner alone."""

    average: int = 1
    """So many of the best trials, their probabilities averaged."""
    joins: Callable[[StudySettings], bool] = lambda settings: True
    """Whether trials of this study may be among them."""
    orientations: bool = False
    """Each image turned and mirrored, the probabilities averaged (test-time augmentation)."""
    refit: Callable[[Winner], Winner] | None = None
    """Trains what was chosen anew on training and validation images."""


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
    """Largest between a probability of the reloaded model and the mean of those that the workers stored; of a turned
    variant, that of the same networks unturned."""

    def scores(self) -> dict[str, float]:
        """Macro-F1 on the validation images, by the keys of `score_split`."""
        from models.scoring.metrics import figures

        return {key: float(figures(*scored.flat())["macro_f1"]) for key, scored in self.validation.items()}

    @property
    def decisive(self) -> float:
        """What decides: macro-F1 on the corrupted validation images, on the clean ones where there are no others."""
        scores = self.scores()
        return scores.get(CORRUPTED, scores[""])


@dataclass(frozen=True)
class Chooser:
    """Builds and scores the variants of one export in a scratch folder."""

    workspace: Workspace
    prepared: PreparedSet
    scratch: Path

    def choose(self, winner: Winner, extras: ExportExtras) -> tuple[Candidate, list[dict[str, Any]]]:
        """The best candidate, and a row for each that was tried: `model`, `clean`, `corrupted`, `kept`.

        Raises SearchError when a reloaded model does not give the workers' probabilities within AGREEMENT.
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
        """The same variant with networks trained anew on training and validation images. What it shows on validation
        images, which it has seen, tells of its reloading alone: its `validation` stays that of the chosen one."""
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
                f"the reloaded model differs from the trained one by {difference:.2g} in a probability, more than "
                f"{AGREEMENT}: nothing was exported; this is a bug of hpsearch or a damaged file in "
                f"{', '.join(map(str, folders))}"
            )
        return Candidate(variant, file, validation, difference)

    def predict(self, model: Path, files: Sequence[Path]) -> list[np.ndarray]:
        from models.formats.conversion import predict_in_fresh_process

        return predict_in_fresh_process(model, files, self.scratch)

    def _member(self, one: Winner) -> Member:
        from models.backbones.user_networks import ready_backbone
        from models.formats.keras_file import Member
        from models.networks.classifier import ClassifierSettings

        own, classes = one.settings.own_backbone, len(self.prepared.class_names)
        backbone = ready_backbone(one.settings.backbone, own, self.workspace.backbone_file(own))
        chosen = one.record.hyperparameters
        resolution = int(chosen.get("resolution", 0))  # trials of before have none
        network = ClassifierSettings(backbone, one.settings.weights, self.prepared.image_shape, classes, resolution)
        weights = stored_folder(self.workspace, one) / WEIGHTS_FILE
        return Member(network, chosen["dropout"], weights)


def stored_folder(workspace: Workspace, one: Winner) -> Path:
    """Where a trial, or its refit, left weights and probabilities."""
    return one.refit or trial_folder(workspace.trials, one.settings.name, one.record.number)


def identity(workspace: Workspace, variant: Variant) -> str:
    """SHA-256 of the weights of a single trial; of several, or turned, one of these and the way they are joined."""
    digests = [
        hashlib.sha256((stored_folder(workspace, one) / WEIGHTS_FILE).read_bytes()).hexdigest()
        for one in variant.members
    ]
    if len(digests) == 1 and not variant.orientations:
        return digests[0]
    return hashlib.sha256(" ".join([*sorted(digests), str(variant.orientations)]).encode()).hexdigest()


def _difference(validation: Mapping[str, Scored], folders: Sequence[Path]) -> float:
    """Studies of before kept clean probabilities alone."""
    names = {"": PROBABILITIES_FILE, CORRUPTED: CORRUPTED_FILE}
    largest = []
    for key, scored in validation.items():
        files = [folder / names[key] for folder in folders]
        if key == "" or all(file.exists() for file in files):
            stored = np.mean([np.load(file, allow_pickle=False) for file in files], axis=0)
            largest.append(np.abs(scored.probabilities - stored).max())
    return float(np.max(largest))

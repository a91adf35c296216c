"""Refit the winner: train it anew on training and validation images together, once its hyperparameters are settled.

A refit uses the same recipe and stops after the trial's best epoch. It selects nothing, since no images are held out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.augmentation.validation_views import write_validation_views
from data_prep.storage.reader import PreparedSet
from models.hyperparameters import Hyperparameters
from search.engine.job import STATE_FILE, WEIGHTS_FILE, TrainingJob, trial_folder_name
from search.engine.worker import WORKER_COMMAND, Worker
from search.errors import SearchError
from search.terminal.output import counted
from search.terminal.progress_bars import Stages
from search.winners.best_trial import Winner
from search.winners.finished_trial import FinishedTrial, finished_trial
from search.workspace import Workspace
from studies.settings import PREFIX_CACHE_OFF
from studies.storage import existing_storage, load_study

DONE_FILE = "refit.json"
"""File that describes the job behind the weights in the same folder."""


@dataclass(frozen=True)
class Refitter:
    """Refits of one workspace's trials, kept in its cache so that each trial is refitted once.

    Attributes:
        weights: File with the pretrained weights, for a study whose weights came from a file.
        say: Called with each line of progress.
    """

    workspace: Workspace
    prepared: PreparedSet
    weights: str | None
    say: Callable[[str], None]
    command: Sequence[str] = WORKER_COMMAND

    def refitted(self, one: Winner) -> Winner:
        """Return the same trial with the folder of its new weights. Hold `workspace.exporting` during the call.

        Raises:
            SearchError: The trial cannot be trained again.
        """
        study = load_study(existing_storage(self.workspace.database), one.settings.name)
        trained = finished_trial(self.workspace, study._storage, study, one.record.number, self.weights)  # type: ignore[arg-type]
        job = self._job(one, trained)
        folder = Path(job.folder)
        if _done(folder) != _facts(job):
            self._train(job, f"trial {one.record.number} of {one.settings.name}")
        return replace(one, refit=folder)

    def _job(self, one: Winner, trained: FinishedTrial) -> TrainingJob:
        best = trained.record.outcome["best"]["step"]
        cache = self.workspace.refits.resolve()
        return replace(
            trained.job,
            # The prefix cache has no place for views of validation images in training.
            settings=replace(trained.job.settings, prefix_cache=PREFIX_CACHE_OFF),
            folder=str(cache / one.settings.name / trial_folder_name(one.record.number)),
            extra_views=str(cache / f"views-{self.prepared.fingerprint[:16]}"),
            replayed=tuple(row["value"] for row in trained.record.epochs if row["step"] <= best),
        )

    def _train(self, job: TrainingJob, name: str) -> None:
        levels = Hyperparameters.from_dict(job.hyperparameters).levels
        with Stages() as stages:
            write_validation_views(self.prepared, levels, Path(job.extra_views), stages)
        images = sum(len(self.prepared.labels(split)) for split in ("train", "validation"))
        self.say(
            f"refitting {name} on {images:,} training and validation images, {counted(len(job.replayed), 'epoch')}"
        )
        worker = Worker(self.workspace.cache / "refit.log", self.command)
        try:
            end = worker.train(job, self._tell)
        finally:
            worker.stop()
        if end["event"] != "done":
            raise SearchError(f"{name} could not be refitted, {end['kind']}: {end['message']}")
        folder = Path(job.folder)
        (folder / DONE_FILE).write_text(json.dumps(_facts(job)), encoding="utf-8")
        (folder / STATE_FILE).unlink(missing_ok=True)

    def _tell(self, figures: list[dict[str, Any]]) -> bool:
        for row in figures:
            self.say(f"epoch {row['step'] + 1}: training loss {row['training_loss']:.4f}")
        return False


def _facts(job: TrainingJob) -> dict[str, Any]:
    """Return all that decides the weights, except the data: the folder is named after a study, which fixes them."""
    read_back: dict[str, Any] = json.loads(json.dumps(job.facts() | {"backbone_file": job.source.backbone_file}))
    return read_back


def _done(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if (folder / WEIGHTS_FILE).is_file() else None


def refit_facts(prepared: PreparedSet, members: Sequence[Winner]) -> dict[str, Any]:
    """Return the facts about a refit for metrics.json and the model card."""
    counts = {split: len(prepared.labels(split)) for split in ("train", "validation")}
    return {
        "trained_on": counts,
        "epochs": [one.record.outcome["best"]["step"] + 1 for one in members],
        "validation_figures": "of the trial before the refit; the validation images are among the training images now",
    }

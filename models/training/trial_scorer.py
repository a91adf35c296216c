"""Score a trial's network on all held-out images: after each epoch, and once more at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from models.feeding.prefix_cache import CachedPart
from models.feeding.training_data import TrainingData
from models.networks.kept_networks import Network
from models.networks.predicting import PREDICT_BATCH, predict
from models.scoring.external_scores import external_scores
from models.scoring.objectives import external_name
from models.scoring.trial_scores import score


@dataclass(frozen=True)
class Answers:
    """Predicted probabilities of the held-out images."""

    clean: np.ndarray
    """float32 (m, classes): probabilities of the validation images."""
    corrupted: np.ndarray | None
    """float32 (m, views, classes): probabilities of their corrupted views; None if there are none."""


@dataclass(frozen=True)
class TrialScorer:
    """Scorer of one network on the held-out images of `data`."""

    network: Network
    data: TrainingData
    objective: str

    def answers(self, features: CachedPart | None = None) -> Answers:
        """Predict with the current weights, from cached features if there are any."""
        if features is None:
            return self._answers_of(self.network.scored)
        clean = predict(features.part.model, features.validation)
        views = self.data.corrupted_images
        if features.corrupted is None or views is None:
            return Answers(clean, None)
        corrupted = predict(features.part.model, features.corrupted)
        return Answers(clean, corrupted.reshape(*views.shape[:2], -1))

    def decisive_external_scores(self) -> dict[str, Any]:
        """Return the scores on the objective's external set with the current weights; empty for other objectives."""
        decisive = external_name(self.objective)
        wanted = [name for name in self.data.external if name == decisive]
        return self._external_scores(wanted, self.network.scored) if wanted else {}

    def scores(self, answers: Answers) -> dict[str, Any]:
        """Return the scores on the validation images, as `models.scoring.trial_scores.score` does."""
        return score(self.data.validation_labels, answers.clean, answers.corrupted, self.data.families)

    def final_answers(self) -> tuple[Answers, float]:
        """Predict with the whole network, without a cache and its rounding, and measure the milliseconds per image."""
        joined, images = self.network.classifier.joined, self.data.validation_images
        predict(joined, images[:PREDICT_BATCH])  # may trace, which must not be timed
        start = time.perf_counter()
        clean = predict(joined, images)
        ms_per_image = 1000 * (time.perf_counter() - start) / len(images)
        return Answers(clean, self._corrupted_answers(joined)), ms_per_image

    def final_scores(self, answers: Answers) -> dict[str, Any]:
        """Return all scores at the end of a trial, including those on every external set."""
        return self.scores(answers) | self._external_scores(self.data.external, self.network.classifier.joined)

    def _answers_of(self, model: keras.Model) -> Answers:
        return Answers(predict(model, self.data.validation_images), self._corrupted_answers(model))

    def _corrupted_answers(self, model: keras.Model) -> np.ndarray | None:
        views = self.data.corrupted_images
        if views is None:
            return None
        return predict(model, views.reshape(-1, *views.shape[2:])).reshape(*views.shape[:2], -1)

    def _external_scores(self, names: Iterable[str], model: keras.Model) -> dict[str, Any]:
        """Score external sets with the whole network: they are scored too rarely for a cache of features."""
        size = min(PREDICT_BATCH, len(self.data.validation_images))  # as for validation images: no new trace
        return external_scores(self.data.external, names, lambda images: predict(model, images, size))

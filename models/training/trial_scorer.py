"""Scores a trial's network on everything that is held out: after each epoch, and once more when it ends."""

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
    """Probabilities of the held-out images."""

    clean: np.ndarray
    """float32 (m, classes): of the validation images"""
    corrupted: np.ndarray | None
    """float32 (m, views, classes): of their corrupted views, where there are any"""


@dataclass(frozen=True)
class TrialScorer:
    """Scores one network on the held-out images of `data`."""

    network: Network
    data: TrainingData
    objective: str

    def answers(self, features: CachedPart | None = None) -> Answers:
        """Predict with the weights as they are now, from kept features where there are any."""
        if features is None:
            return self._answers_of(self.network.scored)
        clean = predict(features.part.model, features.validation)
        views = self.data.corrupted_images
        if features.corrupted is None or views is None:
            return Answers(clean, None)
        corrupted = predict(features.part.model, features.corrupted)
        return Answers(clean, corrupted.reshape(*views.shape[:2], -1))

    def decisive_external_scores(self) -> dict[str, Any]:
        """Figures of the external set that the objective is on, by the weights as they are now; empty for any other."""
        decisive = external_name(self.objective)
        wanted = [name for name in self.data.external if name == decisive]
        return self._external_scores(wanted, self.network.scored) if wanted else {}

    def scores(self, answers: Answers) -> dict[str, Any]:
        """As `models.scoring.trial_scores.score` gives them."""
        return score(self.data.validation_labels, answers.clean, answers.corrupted, self.data.families)

    def final_answers(self) -> tuple[Answers, float]:
        """Predict with the whole network, without the rounding of a cache, and time it: milliseconds an image."""
        joined, images = self.network.classifier.joined, self.data.validation_images
        predict(joined, images[:PREDICT_BATCH])  # may trace, which is not to be timed
        start = time.perf_counter()
        clean = predict(joined, images)
        ms_per_image = 1000 * (time.perf_counter() - start) / len(images)
        return Answers(clean, self._corrupted_answers(joined)), ms_per_image

    def final_scores(self, answers: Answers) -> dict[str, Any]:
        """All figures that a trial ends with, those of every external set among them."""
        return self.scores(answers) | self._external_scores(self.data.external, self.network.classifier.joined)

    def _answers_of(self, model: keras.Model) -> Answers:
        return Answers(predict(model, self.data.validation_images), self._corrupted_answers(model))

    def _corrupted_answers(self, model: keras.Model) -> np.ndarray | None:
        views = self.data.corrupted_images
        if views is None:
            return None
        return predict(model, views.reshape(-1, *views.shape[2:])).reshape(*views.shape[:2], -1)

    def _external_scores(self, names: Iterable[str], model: keras.Model) -> dict[str, Any]:
        """By the whole network: external sets are too seldom scored to keep features of them."""
        size = min(PREDICT_BATCH, len(self.data.validation_images))  # as of those: no new trace
        return external_scores(self.data.external, names, lambda images: predict(model, images, size))

"""External sets: scored over the classes that they have, in each epoch only where the objective asks for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.backbones.registry import UNTRAINED, backbone_named
from models.errors import ModelError
from models.feeding.batches import TrainingViews
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.networks.classifier import ClassifierSettings
from models.networks.predicting import predict
from models.scoring.export_figures import Scored, full_figures
from models.scoring.external_scores import ExternalSet, external_scores
from models.scoring.objectives import external_name, objective_value
from models.training.plan import EpochFigures, Plan, TrialOutcome
from models.training.recipe import Recipe
from models.training.trial import run_trial

SMALL = ClassifierSettings(backbone_named("small_cnn"), UNTRAINED, (32, 32, 3), CLASSES)
PLAN = Plan(SMALL, Hyperparameters(augmentation="none"), Recipe(0, 3, 8), "macro_f1", seed=1)
LABELS = np.array([0, 0, 2, 2])


def sure(guesses: list[int]) -> np.ndarray:
    return np.eye(4, dtype="float32")[guesses] * 0.8 + 0.05


def test_macro_f1_is_over_the_classes_that_the_set_has() -> None:
    sets = {name: ExternalSet(np.zeros((4, 8, 8, 3), np.uint8), LABELS) for name in ("one", "two")}
    scores = external_scores(sets, ["one"], lambda images: sure([0, 1, 2, 2]))
    expected = (2 / 3 + 1) / 2  # the guess of class 1 is a miss of class 0, and no class of its own
    assert scores["external"] == {"one": {"accuracy": 0.75, "macro_f1": pytest.approx(expected), "images": 4}}
    assert objective_value(scores, "external:one") == pytest.approx(expected)
    with pytest.raises(ModelError, match="needs the external set two, but the prepared set has none of that name"):
        objective_value(scores, "external:two")
    assert external_scores(sets, [], lambda images: sure([0])) == {}
    assert (external_name("external:one"), external_name("macro_f1")) == ("one", None)
    report = full_figures(Scored(LABELS, sure([0, 1, 2, 2])), ("a", "b", "c", "d"), None)
    assert report["macro_f1"] == pytest.approx(expected)
    low, high = report["intervals"]["macro_f1"]
    assert low <= expected <= high == 1


def trained(plan: Plan, external: dict[str, ExternalSet]) -> tuple[list[EpochFigures], TrialOutcome]:
    images, labels = tiny_images(48)
    validation, validation_labels = tiny_images(18, seed=1)
    views = TrainingViews(images, [], labels)
    data = TrainingData(views, (1.0,) * CLASSES, validation, validation_labels, external=external)
    seen: list[EpochFigures] = []

    def on_epochs(figures: list[EpochFigures]) -> bool:
        seen.extend(figures)
        return False

    return seen, run_trial(plan, data, on_epochs)


def test_a_trial_scores_external_sets_at_its_end_and_is_the_same_trial() -> None:
    images, labels = tiny_images(20, seed=5)
    sets = {"other": ExternalSet(images, labels), "third": ExternalSet(images[:4], labels[:4])}
    without, plain = trained(PLAN, {})
    epochs, outcome = trained(PLAN, sets)
    assert outcome.weights_sha256 == plain.weights_sha256
    assert all(epoch.validation == other.validation for epoch, other in zip(epochs, without, strict=True))
    assert {name: row["images"] for name, row in outcome.best.validation["external"].items()} == {
        "other": 20,
        "third": 4,
    }
    right = (predict(outcome.classifier.joined, images).argmax(axis=1) == labels).mean()
    assert outcome.best.validation["external"]["other"]["accuracy"] == pytest.approx(right)


def test_an_objective_on_an_external_set_is_measured_in_each_epoch_and_picks_the_epoch() -> None:
    images, labels = tiny_images(20, seed=5)
    sets = {"other": ExternalSet(images, (labels + 1) % CLASSES), "third": ExternalSet(images, labels)}
    epochs, outcome = trained(replace(PLAN, objective="external:other"), sets)
    assert all(epoch.value == epoch.validation["external"]["other"]["macro_f1"] for epoch in epochs)
    assert all(set(epoch.validation["external"]) == {"other"} for epoch in epochs)
    assert outcome.best.value == max(epoch.value for epoch in epochs)
    assert outcome.best.value == outcome.best.validation["external:other"]
    assert set(outcome.best.validation["external"]) == {"other", "third"}

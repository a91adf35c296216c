"""A trial that is cut off and taken up again ends as if nothing had been: figures, and every bit of its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.backbones.registry import UNTRAINED, backbone_named
from models.feeding.batches import TrainingViews
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.networks.classifier import ClassifierSettings
from models.training.checkpoint import GROUPS, CheckpointFacts, CheckpointFile
from models.training.plan import EpochFigures, Plan, TrialOutcome
from models.training.recipe import Recipe
from models.training.trial import run_trial

SMALL = ClassifierSettings(backbone_named("small_cnn"), UNTRAINED, (32, 32, 3), CLASSES)
PLAIN = Hyperparameters(learning_rate=3e-3, augmentation="none", flips=True, weight_averaging=0.9)
RICH = replace(PLAIN, input_mode="bank+in-model")


class CutOffError(Exception):
    """Stands for a kill: nothing of the process is left but its files."""


@pytest.fixture(scope="module")
def data() -> TrainingData:
    images, labels = tiny_images(48)
    validation, validation_labels = tiny_images(18, seed=1)
    return TrainingData(TrainingViews(images, [], labels), (1.0,) * CLASSES, validation, validation_labels)


def timeless(epochs: list[EpochFigures]) -> list[EpochFigures]:
    return [replace(epoch, seconds=0.0, images_per_second=0.0) for epoch in epochs]


def cut_off(plan: Plan, data: TrainingData, state: CheckpointFile, step: int) -> None:
    def on_epochs(figures: list[EpochFigures]) -> bool:
        if figures[-1].step == step:
            raise CutOffError
        return False

    with pytest.raises(CutOffError):
        run_trial(plan, data, on_epochs, state)


@pytest.mark.parametrize(
    ("hyperparameters", "recipe", "backbone", "cuts"),
    [
        (RICH, Recipe(0, 4, 8), SMALL, (0, 2)),
        (replace(PLAIN, schedule="cosine", optimizer="sgd", layer_decay=0.7), Recipe(0, 3, 8), SMALL, (1,)),
        (replace(PLAIN, unfreezing_steps=2), Recipe(1, 3, 24), "pretrained", (0, 2)),
        # The plateau rule lowers the rate in the warm-up, which takes it back.
        (PLAIN, Recipe(0, 5, 24, warmup_epochs=4, plateau_patience=1, plateau_factor=0.1), "pretrained", (3,)),
    ],
)
def test_a_trial_taken_up_again_ends_with_the_same_figures_and_weights(
    hyperparameters: Hyperparameters,
    recipe: Recipe,
    backbone: ClassifierSettings | str,
    cuts: tuple[int, ...],
    data: TrainingData,
    tmp_path: Path,
) -> None:
    """Cut off right after the state was kept, in a phase and at the end of one."""
    network = SMALL if backbone == "pretrained" else backbone
    assert isinstance(network, ClassifierSettings)
    if backbone == "pretrained":  # a file of weights makes it go through all phases
        weights = tmp_path / "start.weights.h5"
        run_trial(
            Plan(SMALL, PLAIN, Recipe(0, 1, 24), "macro_f1", 5), data, lambda rows: False
        ).classifier.network.save_weights(weights)
        network = replace(SMALL, weights=str(weights))
    plan = Plan(network, hyperparameters, recipe, "macro_f1", seed=3)
    whole: list[EpochFigures] = []
    expected = run_trial(plan, data, lambda rows: whole.extend(rows) or False)
    state = CheckpointFile(tmp_path / "state.npz", "this one")
    for step in cuts:
        cut_off(plan, data, state, step)
    heard: list[list[EpochFigures]] = []
    found = run_trial(plan, data, lambda rows: heard.append(list(rows)) or False, state)
    assert [row.step for row in heard[0]] == list(range(cuts[-1] + 1))  # what is done already comes at once
    assert timeless([row for rows in heard for row in rows]) == timeless(whole)
    assert_same(found, expected)


def assert_same(found: TrialOutcome, expected: TrialOutcome) -> None:
    assert found.weights_sha256 == expected.weights_sha256
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert timeless([found.best]) == timeless([expected.best])


def test_a_trial_that_had_ended_only_gives_its_outcome_again(data: TrainingData, tmp_path: Path) -> None:
    plan = Plan(SMALL, PLAIN, Recipe(0, 2, 24), "macro_f1", seed=3)
    state = CheckpointFile(tmp_path / "state.npz", "this one")
    expected = run_trial(plan, data, lambda rows: False, state)
    heard: list[EpochFigures] = []
    assert_same(run_trial(plan, data, lambda rows: heard.extend(rows) or False, state), expected)
    assert len(heard) == 2


def test_a_trial_that_is_stopped_when_taken_up_ends_there(data: TrainingData, tmp_path: Path) -> None:
    plan = Plan(SMALL, PLAIN, Recipe(0, 4, 24), "macro_f1", seed=3)
    state = CheckpointFile(tmp_path / "state.npz", "this one")
    cut_off(plan, data, state, 1)
    outcome = run_trial(plan, data, lambda rows: True, state)
    assert outcome.stopped and outcome.best.step <= 1


@pytest.mark.parametrize("batch_size", [24, 96], ids=["half of the images", "more than there are"])
def test_half_batches_with_added_gradients_take_the_same_steps(
    batch_size: int, data: TrainingData, own_weights: Path
) -> None:
    plain = Hyperparameters(learning_rate=3e-3, augmentation="none", dropout=0.0, weight_averaging=0.9)
    plan = Plan(replace(SMALL, weights=str(own_weights)), plain, Recipe(0, 3, batch_size), "macro_f1", seed=3)
    runs: list[list[EpochFigures]] = [[], []]
    for rows, divisor in zip(runs, (1, 2), strict=True):
        run_trial(replace(plan, batch_divisor=divisor), data, lambda figures, rows=rows: rows.extend(figures) or False)
    losses = [[row.training_loss for row in rows] for rows in runs]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[0][-1] < losses[0][0]
    scores = [[row.validation["loss"] for row in rows] for rows in runs]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


PROGRESS = CheckpointFacts(1, 2, 0, 0.5, [{"step": 0}])
ARRAYS = {group: [np.arange(3.0), np.array(number)] for number, group in enumerate(GROUPS)}


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    state = CheckpointFile(tmp_path / "deep" / "state.npz", "me")
    assert state.load() is None
    state.save(PROGRESS, ARRAYS)
    loaded = state.load()
    assert loaded is not None
    assert loaded[0] == PROGRESS
    for group in GROUPS:
        for one, other in zip(loaded[1][group], ARRAYS[group], strict=True):
            np.testing.assert_array_equal(one, other)
    assert [path.name for path in state.path.parent.iterdir()] == ["state.npz"]


@pytest.mark.parametrize("damage", ["cut", "garbled", "another's"])
def test_a_state_that_is_damaged_or_anothers_is_passed_over(damage: str, tmp_path: Path) -> None:
    state = CheckpointFile(tmp_path / "state.npz", "me")
    state.save(PROGRESS, ARRAYS)
    content = state.path.read_bytes()
    if damage == "cut":
        state.path.write_bytes(content[: len(content) // 2])
    elif damage == "garbled":
        state.path.write_bytes(b"\0" * 100 + content[100:])
    else:
        state = replace(state, identity="somebody else")
    assert state.load() is None

"""What a trial keeps, freezes, reports and repeats, on tiny images and the small CNN or MobileNetV2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.backbones.registry import UNTRAINED, backbone_named
from models.errors import DivergedError, ModelError
from models.feeding.batch_changes import Batch
from models.feeding.batches import TrainingViews
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.networks.classifier import ClassifierSettings
from models.networks.kept_networks import Network, TrainedPart
from models.networks.predicting import predict
from models.training.optimizers import RULES, FlatOptimizer, UpdateOptions
from models.training.plan import EpochFigures, Plan
from models.training.recipe import Recipe, phases_of
from models.training.trained_phase import TrainedPhase
from models.training.trial import run_trial

SHAPE = (32, 32, 3)
SMALL = ClassifierSettings(backbone_named("small_cnn"), UNTRAINED, SHAPE, CLASSES)
MOBILE = ClassifierSettings(backbone_named("mobilenetv2_035"), UNTRAINED, SHAPE, CLASSES)
PLAN = Plan(SMALL, Hyperparameters(learning_rate=3e-3, augmentation="none"), Recipe(1, 3, 8), "macro_f1", seed=1)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    images, labels = tiny_images(48)
    validation, validation_labels = tiny_images(18, seed=1)
    return TrainingData(TrainingViews(images, [], labels), (1.0,) * CLASSES, validation, validation_labels)


def epochs_of(plan: Plan, data: TrainingData, stop_at: int | None = None) -> tuple[list[EpochFigures], Any]:
    seen: list[EpochFigures] = []

    def on_epochs(figures: list[EpochFigures]) -> bool:
        seen.extend(figures)
        return figures[-1].step == stop_at

    return seen, run_trial(plan, data, on_epochs)


def timeless(epochs: list[EpochFigures]) -> list[EpochFigures]:
    return [replace(epoch, seconds=0.0, images_per_second=0.0) for epoch in epochs]


def test_the_same_plan_gives_the_same_figures_and_another_seed_others(data: TrainingData) -> None:
    plan = replace(PLAN, hyperparameters=replace(PLAN.hyperparameters, input_mode="bank+in-model"))
    first, one = epochs_of(plan, data)
    second, two = epochs_of(plan, data)
    assert timeless(first) == timeless(second)
    np.testing.assert_array_equal(one.probabilities, two.probabilities)
    third, _ = epochs_of(replace(plan, seed=2), data)
    assert timeless(third) != timeless(first)


def test_the_kept_weights_are_those_of_the_best_epoch(data: TrainingData) -> None:
    epochs, outcome = epochs_of(PLAN, data)
    best = max(epochs, key=lambda epoch: (epoch.value, -epoch.step))
    assert (outcome.best.step, outcome.best.value) == (best.step, best.value)
    assert outcome.best.validation == pytest.approx(best.validation, abs=1e-5)  # scored again, by the network unfolded
    again = predict(outcome.classifier.joined, data.validation_images)
    np.testing.assert_array_equal(again, outcome.probabilities)
    accuracy = (again.argmax(1) == data.validation_labels).mean()
    assert accuracy == pytest.approx(outcome.best.validation["accuracy"])


def test_replayed_values_lower_the_rate_as_they_did_and_end_the_trial_with_its_last_epoch(data: TrainingData) -> None:
    recipe = replace(PLAN.recipe, epochs=9, plateau_patience=2)
    plan = replace(PLAN, recipe=recipe, replayed=(0.5, 0.4, 0.3, 0.6))
    epochs, outcome = epochs_of(plan, data)
    assert [epoch.value for epoch in epochs] == [0.5, 0.4, 0.3, 0.6]
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([3e-3, 3e-3, 3e-3, 1.5e-3])
    assert (outcome.best.step, outcome.stopped) == (3, False)
    falling, outcome = epochs_of(replace(plan, replayed=(0.5, 0.4)), data)
    assert (outcome.best.step, len(falling)) == (1, 2)  # the last, although its value is lower
    np.testing.assert_array_equal(predict(outcome.classifier.joined, data.validation_images), outcome.probabilities)


def test_a_trial_learns(data: TrainingData) -> None:
    _, outcome = epochs_of(replace(PLAN, recipe=Recipe(0, 8, 8)), data)
    assert outcome.best.value > 0.9


def test_a_stopped_trial_ends_after_that_epoch(data: TrainingData) -> None:
    epochs, outcome = epochs_of(PLAN, data, stop_at=1)
    assert [epoch.step for epoch in epochs] == [0, 1]
    assert outcome.stopped


def test_a_loss_that_leaves_the_finite_numbers_is_named(data: TrainingData) -> None:
    wild = replace(PLAN.hyperparameters, learning_rate=1e30, optimizer="sgd")
    with pytest.raises(DivergedError, match="diverged"):
        epochs_of(replace(PLAN, hyperparameters=wild), data)


def test_a_collapse_to_one_class_is_named_after_some_epochs(data: TrainingData) -> None:
    seen: list[EpochFigures] = []
    plan = replace(PLAN, recipe=Recipe(0, 9, 24))
    one_class = replace(data, validation_images=np.zeros_like(data.validation_images))  # all alike, so guessed alike
    with pytest.raises(DivergedError, match="only one class has been predicted since epoch 2: the trial collapsed"):
        run_trial(plan, one_class, lambda figures: seen.extend(figures) or False)
    assert len(seen) == 3  # the fourth epoch is not reported


@pytest.mark.parametrize("optimizer", RULES)
def test_every_optimizer_moves_the_weights(optimizer: str, data: TrainingData) -> None:
    plan = replace(PLAN, hyperparameters=replace(PLAN.hyperparameters, optimizer=optimizer), recipe=Recipe(0, 1, 24))
    epochs, _ = epochs_of(plan, data)
    assert np.isfinite(epochs[0].training_loss)


def test_an_untrained_network_has_no_head_phase_and_nothing_frozen() -> None:
    (only,) = phases_of(Hyperparameters(frozen_fraction=0.5), Recipe(3, 12), pretrained=False)
    assert (only.name, only.frozen_fraction, only.epochs) == ("fine-tuning", 0.0, 12)


def test_a_pretrained_network_trains_its_head_first() -> None:
    head, tuning = phases_of(Hyperparameters(frozen_fraction=0.5, learning_rate=1e-4), Recipe(3, 12), pretrained=True)
    assert (head.name, head.frozen_fraction, head.epochs, head.learning_rate) == ("head", 1.0, 3, 1e-3)
    assert (tuning.frozen_fraction, tuning.epochs, tuning.learning_rate) == (0.5, 12, 1e-4)


def noted_rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rates of steps, as they are taken."""
    rates: list[float] = []
    taken = TrainedPhase.step

    def noted(phase: TrainedPhase, batch: Batch) -> Any:
        rates.append(float(phase.optimizer.learning_rate))
        return taken(phase, batch)

    monkeypatch.setattr(TrainedPhase, "step", noted)
    return rates


def test_a_pretrained_network_is_warmed_up_step_by_step(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = noted_rates(monkeypatch)
    monkeypatch.setattr(ClassifierSettings, "pretrained", property(lambda settings: True))
    plan = replace(PLAN, hyperparameters=replace(PLAN.hyperparameters, learning_rate=4e-4), recipe=Recipe(1, 2, 12))
    epochs_of(plan, data)
    assert rates == pytest.approx([1e-3] * 4 + [1e-4, 2e-4, 3e-4, 4e-4] + [4e-4] * 4)


def test_warm_up_and_class_weights_can_be_left_out(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    rare = replace(data, class_weights=tuple(float(place + 1) for place in range(CLASSES)))
    plain = replace(PLAN, recipe=replace(PLAN.recipe, class_weights="none"))
    weighted, as_they_come, even = (timeless(epochs_of(*one)[0]) for one in ((PLAN, rare), (plain, rare), (PLAN, data)))
    assert as_they_come == even != weighted
    rates = noted_rates(monkeypatch)
    monkeypatch.setattr(ClassifierSettings, "pretrained", property(lambda settings: True))
    constant = replace(PLAN.hyperparameters, learning_rate=4e-4, schedule="constant")
    epochs_of(replace(PLAN, hyperparameters=constant, recipe=Recipe(0, 7, 24, warmup_epochs=0)), data)
    assert rates == pytest.approx([4e-4] * 14)  # no plateau lowers it, none ends it


def pretrained_network() -> Network:
    """Untrained weights treated as pretrained ones: frozen prefix, batch norm in inference mode."""
    keras.utils.set_random_seed(0)
    network = Network(MOBILE)
    network.classifier = replace(network.classifier, settings=replace(MOBILE, weights="a file"))
    return network


def step(network: Network, part: TrainedPart, data: TrainingData, layer_decay: float = 1.0) -> None:
    """One step of Adam at 1e-3 on 16 images."""
    flat = part.gathered()
    extras = UpdateOptions(network.rate_scales(part, layer_decay))
    optimizer = FlatOptimizer("adam", 1e-3, Hyperparameters(), len(flat), extras)
    targets = np.eye(CLASSES, dtype="float32")[data.views.labels[:16]]
    _, gradient = part.gradients(data.views.originals[:16], targets, np.ones(16, "float32"))
    part.spread(optimizer.moved(flat, gradient))


def changed_layers(network: Network, frozen_fraction: float, data: TrainingData) -> set[str]:
    """Names of the backbone's layers whose weights a training step moves."""
    backbone = network.classifier.network
    before = {layer.name: layer.get_weights() for layer in backbone.layers}
    step(network, network.part(frozen_fraction), data)
    return {
        layer.name
        for layer in backbone.layers
        if any((one != other).any() for one, other in zip(before[layer.name], layer.get_weights(), strict=True))
    }


def test_only_what_lies_behind_the_cut_is_trained_and_batch_norm_stays(data: TrainingData) -> None:
    network = pretrained_network()
    backbone = network.classifier.network
    order = [layer.name for layer in backbone.layers]
    moved = changed_layers(network, 0.5, data)
    frozen = set(order[: order.index(network.cut(0.5).layer) + 1])
    norms = {layer.name for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert moved
    assert not moved & (frozen | norms)


def test_at_the_last_cut_only_the_head_is_trained(data: TrainingData) -> None:
    assert changed_layers(pretrained_network(), 1.0, data) == set()


def test_an_untrained_network_trains_its_batch_norm(data: TrainingData) -> None:
    assert "block1_norm" in changed_layers(Network(SMALL), 0.0, data)


def test_a_frozen_prefix_is_inert_in_training_mode() -> None:
    """Drop-connect inside EfficientNetV2 would make two training-mode passes differ."""
    network = Network(ClassifierSettings(backbone_named("efficientnetv2s"), UNTRAINED, SHAPE, CLASSES))
    part = network.part(1.0)
    images, _ = tiny_images(4)
    one, other = (np.asarray(part.model(images, training=True)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, network.classifier.joined(images, training=False), atol=1e-5)


def test_the_learning_rate_falls_on_a_plateau_and_training_stops_early(data: TrainingData, tmp_path: Path) -> None:
    weights = tmp_path / "own.weights.h5"
    _, trained = epochs_of(PLAN, data)
    trained.classifier.network.save_weights(weights)
    # Pretrained, so batch norm stands still, and a rate this low changes no prediction: the value never improves.
    still = replace(PLAN.hyperparameters, learning_rate=1e-9, optimizer="sgd")
    recipe = Recipe(0, 10, 24, plateau_patience=1, early_stopping_patience=3)
    settings = replace(PLAN, classifier=replace(SMALL, weights=str(weights)), hyperparameters=still, recipe=recipe)
    epochs, _ = epochs_of(settings, data)
    assert len(epochs) == 4
    assert epochs[-1].learning_rate < epochs[0].learning_rate


def test_what_stands_still_in_the_warm_up_lowers_no_rate_and_ends_nothing(data: TrainingData, tmp_path: Path) -> None:
    _, trained = epochs_of(PLAN, data)
    trained.classifier.network.save_weights(tmp_path / "own.weights.h5")
    still = replace(PLAN.hyperparameters, learning_rate=1e-9, optimizer="sgd")
    recipe = Recipe(0, 9, 24, warmup_epochs=5, plateau_patience=1, early_stopping_patience=2)
    own = replace(SMALL, weights=str(tmp_path / "own.weights.h5"))
    epochs, _ = epochs_of(replace(PLAN, classifier=own, hyperparameters=still, recipe=recipe), data)
    assert len(epochs) == 7  # the last of the warm-up, and the two that it may take
    assert epochs[4].learning_rate == pytest.approx(1e-9)


def test_progressive_unfreezing_is_more_phases_of_the_same_length_in_all() -> None:
    steps = phases_of(Hyperparameters(frozen_fraction=0.0, unfreezing_steps=3), Recipe(2, 12), pretrained=True)
    assert [(phase.name, phase.frozen_fraction, phase.epochs) for phase in steps] == [
        ("head", 1.0, 2),
        ("fine-tuning", 0.75, 3),
        ("fine-tuning", 0.375, 3),
        ("fine-tuning", 0.0, 6),
    ]
    one = phases_of(Hyperparameters(frozen_fraction=0.9, unfreezing_steps=4), Recipe(0, 12), pretrained=True)
    assert [(phase.frozen_fraction, phase.epochs) for phase in one] == [(0.9, 12)]
    few = phases_of(Hyperparameters(frozen_fraction=0.0, unfreezing_steps=4), Recipe(0, 2), pretrained=True)
    assert [phase.epochs for phase in few] == [1, 1]


def test_the_figures_have_the_corrupted_views_and_the_objective_chooses_the_epoch(data: TrainingData) -> None:
    views = np.stack([255 - data.validation_images, data.validation_images[:, ::-1]], axis=1)
    families = {"inverted": np.array([[True, False]] * len(views))}
    corrupted = replace(data, corrupted_images=views, families=families)
    epochs, outcome = epochs_of(replace(PLAN, objective="mean_macro_f1"), corrupted)
    assert outcome.best.value == outcome.best.validation["mean_macro_f1"] == max(epoch.value for epoch in epochs)
    again = predict(outcome.classifier.joined, views.reshape(-1, *SHAPE)).reshape(len(views), 2, CLASSES)
    np.testing.assert_array_equal(again, outcome.corrupted_probabilities)
    assert set(outcome.best.validation["families"]) == {"inverted"}


def test_schedules_give_each_step_its_rate_and_end_with_their_last_epoch(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = noted_rates(monkeypatch)
    cosine = replace(PLAN.hyperparameters, learning_rate=1e-3, schedule="cosine", batch_size=12)
    epochs_of(replace(PLAN, hyperparameters=cosine), data)
    wanted = [1e-3 * 0.5 * (1 + np.cos(np.pi * step / 12)) for step in range(1, 13)]
    assert rates == pytest.approx(wanted, abs=1e-8)


def test_averaged_weights_are_scored_and_kept_beside_the_trained_ones(data: TrainingData) -> None:
    plan = replace(PLAN, hyperparameters=replace(PLAN.hyperparameters, weight_averaging=0.9))
    plain, _ = epochs_of(PLAN, data)
    averaged, outcome = epochs_of(plan, data)
    # Training goes on from the plain weights, so that its loss is the same; scores are those of the averages.
    assert [one.training_loss for one in averaged] == pytest.approx([one.training_loss for one in plain], rel=1e-4)
    assert [one.validation["loss"] for one in averaged] != [one.validation["loss"] for one in plain]
    again = predict(outcome.classifier.joined, data.validation_images)
    np.testing.assert_array_equal(again, outcome.probabilities)


def test_layer_decay_slows_the_parts_by_their_distance_from_the_head(data: TrainingData) -> None:
    scales = pretrained_network().classifier.rate_scales(0.5)
    by_layer = {path.split("/")[0]: scale for path, scale in scales.items()}
    assert by_layer["Conv1"] == 0.5**5
    assert by_layer["Conv_1"] == 0.5
    assert sorted(set(by_layer.values())) == [0.5**power for power in (5, 4, 3, 2, 1)]

    def moved(layer_decay: float) -> list[float]:
        keras.utils.set_random_seed(0)
        network = Network(SMALL)
        layers = [network.classifier.network.get_layer("block1_conv"), network.classifier.head[-1]]
        before = [layer.get_weights()[0] for layer in layers]
        step(network, network.part(0.0), data, layer_decay)
        return [float(abs(layer.get_weights()[0] - old).max()) for layer, old in zip(layers, before, strict=True)]

    assert moved(1.0) == pytest.approx([1e-3, 1e-3], rel=0.02)  # Adam's first step is the rate itself
    first, head = moved(0.1)
    assert first < 2e-5
    assert head == pytest.approx(1e-3, rel=0.02)


def test_a_recipe_and_hyperparameters_state_their_rules() -> None:
    with pytest.raises(ModelError, match="`epochs >= 1` must hold"):
        Recipe(epochs=0)
    with pytest.raises(ModelError, match=r"`class_weights in .* must hold, but class_weights is 'some'"):
        Recipe(class_weights="some")
    with pytest.raises(ModelError, match="`0 <= dropout < 1` must hold, but the value is 1"):
        Hyperparameters(dropout=1.5)
    with pytest.raises(ModelError, match="unknown hyperparameter `dropuot`"):
        Hyperparameters.from_dict({"dropuot": 0.1})

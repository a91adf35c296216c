"""Training in another precision, or by XLA, changes training steps alone; the choice follows figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.backbones.registry import UNTRAINED, backbone_named
from models.feeding.batches import TrainingViews
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.networks import step_timing
from models.networks.arithmetic import MIXED_BFLOAT16, Arithmetic, StepTime, quickest
from models.networks.classifier import ClassifierSettings
from models.networks.compiled_steps import gradient_function
from models.networks.kept_networks import Network, Networks
from models.networks.predicting import predict
from models.training.plan import EpochFigures, Plan
from models.training.recipe import Recipe
from models.training.trial import TrainingEnvironment, run_trial

SHAPE = (16, 16, 3)
SMALL = ClassifierSettings(backbone_named("small_cnn"), UNTRAINED, SHAPE, CLASSES)
PLAIN, MIXED = Arithmetic(), Arithmetic(MIXED_BFLOAT16)


def one_batch(count: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images, labels = tiny_images(count, size=16)
    return images, np.eye(CLASSES, dtype="float32")[labels], np.ones(count, "float32")


def test_a_trial_in_bfloat16_learns_and_ends_as_a_float32_network(tmp_path: Path) -> None:
    images, labels = tiny_images(48, size=16)
    validation, validation_labels = tiny_images(18, seed=1, size=16)
    data = TrainingData(TrainingViews(images, [], labels), (1.0,) * CLASSES, validation, validation_labels)
    hyperparameters = Hyperparameters(learning_rate=3e-3, augmentation="none", optimizer="adam")
    plan = Plan(SMALL, hyperparameters, Recipe(0, 2, 12), "macro_f1", seed=1, arithmetic=MIXED)
    networks, losses = Networks(), {}
    for arithmetic in (MIXED, PLAIN):
        rows: list[EpochFigures] = []
        outcome = run_trial(
            replace(plan, arithmetic=arithmetic),
            data,
            lambda figures, rows=rows: rows.extend(figures) or False,  # type: ignore[misc]
            environment=TrainingEnvironment(networks),
        )
        losses[arithmetic] = [row.training_loss for row in rows]
        if arithmetic == MIXED:
            mixed, weights = outcome, outcome.classifier.joined.get_weights()
    assert losses[MIXED][-1] < 0.8 * losses[MIXED][0]
    assert losses[MIXED] == pytest.approx(losses[PLAIN], rel=0.1, abs=0.01)
    assert losses[MIXED] != losses[PLAIN]
    # The same weights in a network that never heard of a precision, and from a file that names none.
    other = Network(SMALL).classifier.joined
    other.set_weights(weights)
    np.testing.assert_array_equal(predict(other, validation), mixed.probabilities)
    mixed.classifier.joined.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert {layer.dtype_policy.name for layer in loaded._flatten_layers()} == {"float32"}
    assert {weight.dtype for weight in weights} == {np.dtype("float32")}


def test_the_gradient_alone_is_of_the_precision_also_of_a_pretrained_network(own_weights: Path) -> None:
    settings = replace(SMALL, weights=str(own_weights), image_shape=(32, 32, 3))
    network = Network(settings)
    images, labels = tiny_images(8)
    batch = (images, np.eye(CLASSES, dtype="float32")[labels], np.ones(8, "float32"))
    found = {}
    for arithmetic in (PLAIN, MIXED):
        network.arithmetic = arithmetic
        loss, gradient = network.part(0.5).gradients(*batch)
        found[arithmetic] = np.append(gradient, loss)
    assert found[MIXED].dtype == found[PLAIN].dtype == np.float32
    difference = np.linalg.norm(found[MIXED] - found[PLAIN]) / np.linalg.norm(found[PLAIN])
    assert 1e-5 < difference < 0.05  # bfloat16 has eight bits
    np.testing.assert_allclose(network.part(0.5).model(images), network.classifier.joined(images), atol=1e-5)


def test_xla_gives_the_figures_that_are_had_without() -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE, dtype="uint8")
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(CLASSES, activation="softmax")(x))
    plain, xla = (
        gradient_function(model, model.trainable_variables, Arithmetic(xla=on))(*one_batch()) for on in (False, True)
    )
    np.testing.assert_allclose(xla[0], plain[0], rtol=1e-5)
    np.testing.assert_allclose(xla[1], plain[1], atol=1e-5)


def test_layers_that_xla_cannot_compile_are_trained_without() -> None:
    network = Network(SMALL)
    network.arithmetic = Arithmetic(xla=True)
    loss, _ = network.part(0.0, in_model=True).gradients(*one_batch())
    assert np.isfinite(loss)


def test_steps_are_measured_and_what_cannot_run_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = step_timing.step_times(SMALL, 8, [PLAIN, Arithmetic("mixed_nonsense"), MIXED], steps=2)
    assert [row.arithmetic for row in rows] == [PLAIN, MIXED]
    assert all(row.step_ms > 0 and row.compile_s > 0 for row in rows)
    assert "mixed_nonsense cannot be timed and is skipped: ValueError" in capsys.readouterr().out


XLA, BOTH = Arithmetic(xla=True), Arithmetic(MIXED_BFLOAT16, xla=True)


@pytest.mark.parametrize(
    ("figures", "steps", "chosen"),
    [
        ({PLAIN: (0, 10), MIXED: (0, 5), XLA: (0, 8)}, 100, MIXED),
        ({PLAIN: (0, 10), MIXED: (0, 9.5)}, 100, PLAIN),  # too little to be sure of
        ({PLAIN: (0, 10), MIXED: (0, 20)}, 100, PLAIN),
        ({PLAIN: (2, 10), XLA: (30, 5)}, 1000, PLAIN),  # 12 and 35 s
        ({PLAIN: (2, 10), XLA: (30, 5)}, 10_000, XLA),  # 102 and 80 s
        ({PLAIN: (2, 10), MIXED: (3, 6), BOTH: (40, 3)}, 5_000, MIXED),  # 52, 33 and 55 s
    ],
)
def test_the_quickest_trial_is_chosen_where_it_gains_enough(
    figures: dict[Arithmetic, tuple[float, float]], steps: int, chosen: Arithmetic
) -> None:
    rows = [StepTime(arithmetic, *times) for arithmetic, times in figures.items()]
    assert quickest(rows, steps).arithmetic == chosen

"""A network that is kept from trial to trial gives what a fresh one gives, and what changes between trials takes
effect."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_images as tiny_images_module
from tiny_images import CLASSES, tiny_images

from models.backbones.registry import UNTRAINED, backbone_named
from models.feeding.batches import TrainingViews
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.networks.classifier import ClassifierSettings, TunableDropout
from models.networks.kept_networks import Networks
from models.training.plan import EpochFigures, Plan
from models.training.recipe import Recipe
from models.training.trial import TrainingEnvironment, run_trial

SHAPE = (32, 32, 3)
PLAIN = Hyperparameters(learning_rate=3e-3, augmentation="none", dropout=0.2)
ADAM = replace(PLAIN, optimizer="adam", learning_rate=1e-3)
RICH = replace(PLAIN, input_mode="bank+in-model", optimizer="sgd", momentum=0.8, weight_averaging=0.9, layer_decay=0.7)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    images, labels = tiny_images(48)
    validation, validation_labels = tiny_images(18, seed=1)
    return TrainingData(TrainingViews(images, [], labels), (1.0,) * CLASSES, validation, validation_labels)


@pytest.fixture(scope="module")
def pretrained(own_weights: Path) -> ClassifierSettings:
    return ClassifierSettings(backbone_named("small_cnn"), str(own_weights), SHAPE, CLASSES)


def trained(plan: Plan, data: TrainingData, networks: Networks | None = None) -> tuple[str, list[float]]:
    """Hash of the weights a trial ends with, and what it reported."""
    rows: list[EpochFigures] = []
    environment = TrainingEnvironment(networks or Networks())
    outcome = run_trial(plan, data, lambda figures: rows.extend(figures) or False, environment=environment)
    return outcome.weights_sha256, [row.value for row in rows] + [row.training_loss for row in rows]


@pytest.mark.parametrize("kind", ["pretrained", "untrained"])
def test_a_kept_network_gives_the_figures_of_a_fresh_one(
    kind: str, data: TrainingData, pretrained: ClassifierSettings
) -> None:
    settings = pretrained if kind == "pretrained" else replace(pretrained, weights=UNTRAINED)
    plans = [
        Plan(settings, hyperparameters, Recipe(1, 2, 24), "macro_f1", seed)
        for seed, hyperparameters in enumerate([RICH, replace(PLAIN, frozen_fraction=0.25), RICH])
    ]
    kept = Networks()
    in_turn = [trained(plan, data, kept) for plan in plans]
    assert in_turn == [trained(plan, data) for plan in plans]
    assert kept.built(settings).traced <= 4


@pytest.mark.parametrize(
    ("name", "value", "optimizer"),
    [
        ("dropout", 0.6, "adam"),
        ("learning_rate", 1e-3, "adam"),
        ("optimizer", "rmsprop", "adam"),
        ("weight_decay", 0.1, "adamw"),
        ("weight_decay", 0.1, "lion"),
        ("momentum", 0.5, "sgd"),
        ("label_smoothing", 0.1, "adam"),
        ("layer_decay", 0.5, "adam"),
        ("weight_averaging", 0.9, "adam"),
        ("schedule", "cosine", "adam"),
        ("flips", True, "adam"),
        ("batch_size", 12, "adam"),
        ("frozen_fraction", 0.75, "adam"),
    ],
)
def test_each_change_takes_effect_in_a_kept_network(
    name: str, value: object, optimizer: str, data: TrainingData, pretrained: ClassifierSettings, kept: Networks
) -> None:
    before = Plan(pretrained, replace(PLAIN, frozen_fraction=0.0, optimizer=optimizer), Recipe(0, 2, 24), "macro_f1", 1)
    after = replace(before, hyperparameters=Hyperparameters.from_dict({**vars(before.hyperparameters), name: value}))
    one, other = trained(before, data, kept), trained(after, data, kept)
    assert one[0] != other[0] or one[1] != other[1]  # the best epoch may be one before the change matters
    assert trained(before, data, kept) == one


@pytest.fixture(scope="module")
def kept() -> Networks:
    return Networks()


def test_a_later_trial_traces_nothing_to_be_trained_and_scored(
    data: TrainingData, pretrained: ClassifierSettings
) -> None:
    kept = Networks()
    for seed, hyperparameters in enumerate([PLAIN, replace(ADAM, dropout=0.4), replace(PLAIN, label_smoothing=0.1)]):
        trained(Plan(pretrained, hyperparameters, Recipe(1, 2, 24), "macro_f1", seed), data, kept)
    network = kept.built(pretrained)
    functions = [network.scored.predict_function, network.classifier.joined.predict_function]
    functions += [network.part(cut).gradients for cut in (PLAIN.frozen_fraction, 1.0)]
    assert [function.experimental_get_tracing_count() for function in functions] == [1, 1, 1, 1]


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    layer = TunableDropout()
    layer.rate.assign(0.3)
    out = keras.ops.convert_to_numpy(layer(np.ones((400, 100), "float32"), training=True))
    assert set(np.unique(out.round(4))) == {0.0, np.float32(1 / 0.7).round(4)}
    assert (out == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert out.mean() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(layer(np.ones((2, 2), "float32")), np.ones((2, 2)))


JAX_TRIAL = """
import os, sys
sys.path[:0] = sys.argv[1].split(os.pathsep)
from dataclasses import replace
from pathlib import Path
import numpy as np
import test_kept_networks as shared
from models.feeding.batches import TrainingViews
from models.feeding.cache_cost import Keeping, cut_costs
from models.feeding.prefix_cache import CacheSettings
from models.feeding.training_data import TrainingData
from models.networks.arithmetic import Arithmetic
from models.networks.compiled_steps import gradient_function
from models.networks.kept_networks import Networks
from models.training.recipe import Recipe
from models.training.plan import Plan
from models.training.trial import TrainingEnvironment, run_trial
from tiny_images import CLASSES, tiny_images
import keras
assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
images, labels = tiny_images(48)
validation, validation_labels = tiny_images(18, seed=1)
data = TrainingData(TrainingViews(images, [], labels), (1.0,) * CLASSES, validation, validation_labels)
settings = shared.ClassifierSettings(shared.backbone_named("small_cnn"), shared.UNTRAINED, shared.SHAPE, CLASSES)
plans = [Plan(settings, h, Recipe(0, 4, 8), "macro_f1", 3) for h in (shared.PLAIN, shared.ADAM, shared.PLAIN)]
kept = Networks()
first, other, again = (shared.trained(plan, data, kept) for plan in plans)
assert first == again and first[0] != other[0]
assert first[1][7] < first[1][4], first  # the loss falls
pretrained = replace(settings, weights=sys.argv[2])
frozen = replace(shared.PLAIN, frozen_fraction=0.5)
plan = Plan(pretrained, frozen, Recipe(1, 2, 8), "macro_f1", 3)
outcomes = []
for cache in (None, CacheSettings(Path(sys.argv[3]), "float32", 10**9, "images")):
    outcomes.append(run_trial(plan, data, lambda figures: False, environment=TrainingEnvironment(kept, cache)))
assert outcomes[1].prefix_cache_share > 0 == outcomes[0].prefix_cache_share
np.testing.assert_allclose(outcomes[1].probabilities, outcomes[0].probabilities, atol=1e-5)
half = replace(plan, arithmetic=Arithmetic("mixed_bfloat16"))
assert np.isfinite(run_trial(half, data, lambda figures: False).probabilities).all()
keeping = Keeping("float32", 10**9, 100, from_disk=True)
costs = cut_costs(kept.taken(pretrained, 0.0, 0, half.arithmetic), [0.5, 1.0], 8, keeping, Path(sys.argv[3]))
assert len(costs) == 2 and all(row.compute_ms > 0 and row.read_ms > 0 for row in costs)
image = keras.Input((2,))
sure = keras.Model(image, keras.layers.Dense(3, activation="softmax")(image))
sure.set_weights([np.zeros((2, 3)), np.array([50.0, 0.0, 0.0])])
loss, gradient = gradient_function(sure, sure.trainable_variables)(np.ones((1, 2)), np.eye(3)[[1]], np.ones(1))
np.testing.assert_allclose(loss, 50, rtol=1e-5)
np.testing.assert_allclose(gradient[-3:], [1, -1, 0], atol=1e-5)  # a network that is surely wrong learns
"""


def test_the_same_code_trains_under_jax(own_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(tiny_images_module.__file__).parent)])
    command = [sys.executable, "-c", JAX_TRIAL, folders, str(own_weights), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

"""Images resized inside the network: what is resized, what is kept apart by it, and what is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.backbones.preprocessing import resized
from models.backbones.registry import IMAGENET, UNTRAINED, backbone_named, default_resolution, resized_shape
from models.errors import ModelError
from models.feeding.batches import TrainingViews
from models.feeding.prefix_cache import CacheSettings
from models.feeding.training_data import TrainingData
from models.formats.keras_file import Member, save_model
from models.hyperparameters import Hyperparameters
from models.networks.classifier import ClassifierSettings, make_classifier
from models.networks.kept_networks import KEPT_NETWORKS, Network, Networks
from models.training.plan import Plan, TrialOutcome
from models.training.recipe import Recipe
from models.training.trial import TrainingEnvironment, run_trial

SHAPE = (32, 32, 3)
SMALL = backbone_named("small_cnn")
LARGER = ClassifierSettings(SMALL, UNTRAINED, SHAPE, CLASSES, resolution=48)
FROZEN = Hyperparameters(frozen_fraction=0.5, learning_rate=1e-3, augmentation="none", optimizer="adam")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    images, labels = tiny_images(24)
    validation, validation_labels = tiny_images(9, seed=1)
    return TrainingData(TrainingViews(images, [], labels), (1.0,) * CLASSES, validation, validation_labels)


@pytest.fixture(scope="module")
def plan(own_weights: Path) -> Plan:
    settings = ClassifierSettings(SMALL, str(own_weights), SHAPE, CLASSES)
    return Plan(settings, FROZEN, Recipe(0, 1, 12), "macro_f1", seed=2)


def at(plan: Plan, resolution: int) -> Plan:
    return replace(plan, hyperparameters=replace(plan.hyperparameters, resolution=resolution))


def trained(plan: Plan, data: TrainingData, networks: Networks, cache: CacheSettings | None = None) -> TrialOutcome:
    return run_trial(plan, data, lambda figures: False, environment=TrainingEnvironment(networks, cache))


@pytest.mark.parametrize("size", [(24, 24), (16, 16), (13, 13), (9, 9), (80, 80)])
def test_resizing_keeps_a_gradient_where_it_is_and_skips_no_pixel(size: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.arange(32)[:, None, None] * 8, SHAPE).astype(np.uint8)
    out = keras.ops.convert_to_numpy(resized(ramp[None], size))
    assert out.dtype == np.float32 and out.shape == (1, *size, 3)
    centres = (np.arange(size[0]) + 0.5) * 32 / size[0] - 0.5
    inner = slice(size[0] // 8 + 1, -size[0] // 8 - 1)  # the outermost have nothing beyond them
    np.testing.assert_allclose(out[0, inner, 0, 0], centres[inner] * 8, atol=1e-3)
    dots = np.eye(32 * 32, dtype=np.uint8).reshape(-1, 32, 32, 1)[32 * 16 : 32 * 17] * np.array([255], np.uint8)
    seen = keras.ops.convert_to_numpy(resized(np.repeat(dots, 3, axis=-1), size)).sum(axis=(1, 2, 3))
    assert (seen > 0).all()


def test_nothing_stands_before_images_of_the_right_size() -> None:
    images, _ = tiny_images(2)
    assert resized(images, SHAPE[:2]) is images
    own, same = (
        make_classifier(replace(LARGER, resolution=0), 0.0),
        make_classifier(replace(LARGER, resolution=32), 0.0),
    )
    assert len(own.joined.operations) == len(same.joined.operations)


def test_the_shorter_side_has_the_resolution() -> None:
    assert resized_shape((30, 60, 3), 15) == (15, 30, 3)
    assert resized_shape((60, 31, 3), 0) == (60, 31, 3)


def test_a_row_may_say_what_small_images_are_enlarged_to() -> None:
    picky = replace(SMALL, min_size=75, resolution=96)
    assert [default_resolution(picky, (side, side, 3)) for side in (28, 75, 224)] == [96, 0, 0]
    assert default_resolution(replace(picky, resolution=None), SHAPE) == 0


@pytest.mark.parametrize("resolution", [20, 48])
def test_prefix_and_suffix_equal_the_whole_at_every_cut(resolution: int) -> None:
    network = Network(replace(LARGER, resolution=resolution))
    images, _ = tiny_images(4)
    assert network.classifier.joined.input_shape == (None, *SHAPE)
    assert network.classifier.network.input_shape == (None, resolution, resolution, 3)
    whole = np.asarray(network.classifier.joined(images, training=False))
    for cut in network.classifier.cuts:
        np.testing.assert_allclose(network.part(cut.fraction).model(images, training=False), whole, atol=1e-5)
        np.testing.assert_allclose(network.part(cut.fraction, True).model(images, training=False), whole, atol=1e-5)
        behind = network.part(cut.fraction, on_features=True)
        assert behind.prefix is not None
        features = behind.prefix(images, training=False)
        np.testing.assert_allclose(behind.model(features, training=False), whole, atol=1e-5)


def test_trials_of_different_resolution_in_one_process_are_as_in_processes_of_their_own(
    plan: Plan, data: TrainingData
) -> None:
    kept = Networks()
    plans = [at(plan, resolution) for resolution in (0, 48, 0, 48)]
    hashes = [trained(one, data, kept).weights_sha256 for one in plans]
    assert hashes[:2] == hashes[2:] and hashes[0] != hashes[1]
    assert hashes[1] == trained(plans[1], data, Networks()).weights_sha256
    assert kept.traced == 2


def test_the_networks_used_last_are_kept() -> None:
    networks = Networks()
    settings = [replace(LARGER, resolution=32 + 8 * number) for number in range(KEPT_NETWORKS + 1)]
    first, *others = [networks.built(one) for one in settings[:-1]]
    assert networks.built(settings[0]) is first  # the one used last, from now on
    networks.built(settings[-1])
    assert networks.built(settings[0]) is first
    assert networks.built(settings[1]) is not others[0]


def test_kept_features_are_of_one_resolution(plan: Plan, data: TrainingData, tmp_path: Path) -> None:
    cache, networks = CacheSettings(tmp_path, "float32", 10**8, "these images"), Networks()
    trained(plan, data, networks, cache)
    larger = trained(at(plan, 48), data, networks, cache)
    assert larger.prefix_cache_share == 0 and len(list(tmp_path.iterdir())) == 2
    expected = trained(at(plan, 48), data, networks)
    np.testing.assert_allclose(larger.probabilities, expected.probabilities, atol=1e-5)
    assert trained(plan, data, networks, cache).prefix_cache_share == 1


@pytest.mark.parametrize("resolution", [20, 48])
def test_the_export_takes_raw_images_of_the_prepared_size_and_opens_in_plain_keras(
    resolution: int, tmp_path: Path
) -> None:
    images, _ = tiny_images(4)
    settings = replace(LARGER, resolution=resolution)
    joined = make_classifier(settings, 0.1).joined
    joined.save_weights(tmp_path / "trial.weights.h5")
    save_model([Member(settings, 0.1, tmp_path / "trial.weights.h5")], tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert (model.input_shape, model.inputs[0].dtype) == ((None, *SHAPE), "uint8")
    expected = joined.predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(model(images), expected, atol=1e-5)  # in inference mode as well


def test_the_resolution_decides_which_imagenet_weights_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def no_network(**_: object) -> None:
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "MobileNetV2", no_network)
    settings = ClassifierSettings(backbone_named("mobilenetv2_035"), IMAGENET, (96, 96, 3), CLASSES, resolution=128)
    with pytest.raises(ModelError, match=r"put mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_128_no_top.h5"):
        make_classifier(settings, 0.0)


@pytest.mark.parametrize("value", [7, 100.5, -1, 4096, "large"])
def test_a_resolution_that_makes_no_sense_is_refused(value: object) -> None:
    with pytest.raises(
        ModelError, match="`resolution == 0 or 8 <= resolution <= 1024, a whole number` must hold, but the value"
    ):
        Hyperparameters.from_dict({"resolution": value})

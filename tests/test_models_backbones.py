"""One contract over all rows of the table of backbones, untrained, at 32 pixels."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import CLASSES, tiny_images

from models.backbones import (
    BACKBONES,
    IMAGENET,
    UNTRAINED,
    Backbone,
    backbone_named,
    build,
    check_weights,
    default_weights,
    weights_path,
)
from models.classifier import Classifier, ClassifierSettings
from models.errors import ModelError
from models.networks import Network
from models.preprocessing import PREPROCESSING

SHAPE = (32, 32, 3)
RANGES = {"-1..1": (-1.0, 1.0), "bgr-mean": (-123.68, 255 - 103.939), "inside": (0.0, 255.0)}


@pytest.fixture(scope="module", params=BACKBONES, ids=lambda row: row.name)
def network(request: pytest.FixtureRequest) -> Network:
    keras.utils.set_random_seed(0)
    return Network(ClassifierSettings(request.param, UNTRAINED, SHAPE, CLASSES))


@pytest.fixture
def classifier(network: Network) -> Classifier:
    return network.classifier


def test_the_row_states_the_number_of_parameters(classifier: Classifier) -> None:
    assert classifier.network.count_params() == classifier.settings.backbone.parameters


def test_preprocessing_fills_the_range_of_its_name(classifier: Classifier) -> None:
    kind = classifier.settings.backbone.preprocessing
    extremes = np.stack([np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)])
    out = keras.ops.convert_to_numpy(PREPROCESSING[kind](extremes))
    assert out.dtype == np.float32
    assert (out.min(), out.max()) == pytest.approx(RANGES[kind], abs=1e-3)


def test_cut_points_run_from_the_input_to_the_output(classifier: Classifier) -> None:
    fractions = [cut.fraction for cut in classifier.cuts]
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert fractions == sorted(fractions)
    assert 5 <= len(set(fractions)) <= 6
    assert classifier.cuts[-1].parameter_fraction == pytest.approx(1)


def test_prefix_and_suffix_equal_the_whole_at_every_cut(network: Network) -> None:
    """In one piece, and with the prefix's output taken out and put in again, as it is when it is kept."""
    images, _ = tiny_images(4)
    whole = np.asarray(network.classifier.joined(images, training=False))
    for cut in network.classifier.cuts:
        part = network.part(cut.fraction)
        assert part.cut is cut
        np.testing.assert_allclose(part.model(images, training=False), whole, atol=1e-5)
        behind = network.part(cut.fraction, on_features=True)
        assert behind.prefix is not None
        features = behind.prefix(images, training=False)
        np.testing.assert_allclose(behind.model(features, training=False), whole, atol=1e-5)


def test_the_joined_network_opens_in_plain_keras(classifier: Classifier, tmp_path: Path) -> None:
    images, _ = tiny_images(4)
    classifier.joined.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(reloaded(images), classifier.joined(images), atol=1e-6)


def test_the_backbone_is_as_keras_preprocesses_it() -> None:
    """The range of a row is that of keras.applications.imagenet_utils, channel order included."""
    images = tiny_images(2)[0].astype("float32")
    for kind, mode in (("-1..1", "tf"), ("bgr-mean", "caffe")):
        expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(PREPROCESSING[kind](images)), expected, atol=1e-4)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean efficientnetv2s"):
        backbone_named("efficientnet_v2s")
    with pytest.raises(ModelError, match="there are vgg19, "):
        backbone_named("zzz")


def test_missing_imagenet_weights_are_named_with_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    row = backbone_named("mobilenetv2_035")

    def no_network(**_: object) -> None:
        raise Exception("URL fetch failure on https://example.org: no network")

    monkeypatch.setattr(keras.applications, "MobileNetV2", no_network)
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
    with pytest.raises(ModelError, match=f"put {name} into {tmp_path}/models, or use --weights none"):
        build(row, IMAGENET, (96, 96, 3))
    assert weights_path(row, (100, 100, 3)).name.endswith("0.35_224_no_top.h5")


def test_weights_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    small: Backbone = backbone_named("small_cnn")
    assert default_weights(small) == UNTRAINED
    with pytest.raises(ModelError, match="no ImageNet weights"):
        check_weights(small, IMAGENET)
    with pytest.raises(ModelError, match="is no file"):
        check_weights(small, str(tmp_path / "absent.h5"))


def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(ModelError, match=r"small_cnn cannot be built with the weights .*other\.weights\.h5"):
        build(backbone_named("small_cnn"), str(path), SHAPE)


def test_weights_from_a_file_are_taken(tmp_path: Path) -> None:
    first = build(backbone_named("small_cnn"), UNTRAINED, SHAPE)
    first.save_weights(tmp_path / "own.weights.h5")
    second = build(backbone_named("small_cnn"), str(tmp_path / "own.weights.h5"), SHAPE)
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

"""One contract over the rows of the table of backbones; what is asked of one stands in benchmarks/contract.py."""

from __future__ import annotations

import importlib
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_images import tiny_images

from benchmarks.contract import (
    Subject,
    check_cuts,
    check_images_are_told_apart,
    check_opens_in_plain_keras,
    check_preprocessing,
    check_row,
    subject_of,
)
from models.backbones.preprocessing import PREPROCESSING
from models.backbones.registry import (
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
from models.errors import ModelError

SHAPE = (32, 32, 3)
QUICK = 30_000_000
"""Parameters up to which a row is tested here: one of each family at least. `benchmarks/contract.py` tests all."""


@pytest.fixture(scope="module", params=[row for row in BACKBONES if row.parameters < QUICK], ids=lambda row: row.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


def test_the_row_states_parameters_cut_points_and_weights_file(subject: Subject) -> None:
    check_row(subject)


def test_preprocessing_fills_the_range_of_its_name(subject: Subject) -> None:
    check_preprocessing(subject)


def test_prefix_and_suffix_equal_the_whole_at_every_cut(subject: Subject) -> None:
    check_images_are_told_apart(subject)
    check_cuts(subject)


def test_the_joined_network_opens_in_plain_keras(subject: Subject, tmp_path: Path) -> None:
    check_opens_in_plain_keras(subject, tmp_path)


def test_the_backbone_is_as_keras_preprocesses_it() -> None:
    """The range of a row is that of keras.applications.imagenet_utils, channel order included."""
    images = tiny_images(2)[0].astype("float32")
    for kind, mode in (("-1..1", "tf"), ("bgr-mean", "caffe"), ("rgb-mean-std", "torch")):
        expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(PREPROCESSING[kind](images)), expected, atol=1e-4)


def test_every_row_is_preprocessed_as_its_module_in_keras_says() -> None:
    """Where the module leaves the input as it is, the network rescales by itself."""
    probe = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype("float32")
    for row in BACKBONES:
        builder = getattr(keras.applications, row.builder.split(":")[1], None)
        if builder is not None:
            expected = importlib.import_module(builder.__module__).preprocess_input(probe.copy())
            np.testing.assert_allclose(PREPROCESSING[row.preprocessing](probe), expected, atol=1e-4, err_msg=row.name)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean efficientnetv2s"):
        backbone_named("efficientnet_v2s")
    with pytest.raises(ModelError, match="choose one of vgg16, "):
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
    with pytest.raises(ModelError, match="is not a file"):
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

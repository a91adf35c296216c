"""A user's model of any precision becomes a float32 backbone with its weights, and exports to all formats."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from models.backbones.own_model import opened
from models.backbones.registry import OWN, UNTRAINED, build
from models.backbones.user_networks import ready_backbone
from models.backbones.user_rows import asked_backbone
from models.errors import ModelError
from models.formats.keras_file import Member, save_model
from models.formats.registry import FORMATS, KERAS
from models.networks.classifier import ClassifierSettings, make_classifier

SHAPE = (16, 16, 3)
L = keras.layers


@pytest.fixture(autouse=True)
def policy_restored() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def saved(path: Path, policy: str) -> keras.Model:
    """A classifier of this policy around a nested network, with bare operations; saved."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    image = keras.Input(SHAPE, dtype="uint8")
    inner = keras.Input(SHAPE)
    x = L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(inner))
    x = keras.ops.cast(x, keras.config.dtype_policy().compute_dtype) + L.DepthwiseConv2D(3, padding="same")(x)
    network = keras.Model(inner, L.ReLU()(x))
    x = L.GlobalAveragePooling2D()(network(L.Rescaling(1 / 127.5, offset=-1.0)(image)))
    model = keras.Model(image, L.Dense(3, activation="softmax", dtype="float32")(x))
    model.save(path)
    keras.config.set_dtype_policy("float32")
    return model


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "bfloat16", "float16", "float64"])
def test_a_model_of_any_precision_becomes_float32_with_its_weights(policy: str, tmp_path: Path) -> None:
    model = saved(tmp_path / "net.keras", policy)
    found = opened(str(tmp_path / "net.keras"))
    for one, other in zip(found.get_weights(), model.get_weights(), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, np.asarray(other, "float32"))
    images = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype="uint8")
    np.testing.assert_allclose(found(images), np.asarray(model(images), "float32"), atol=0.02)
    assert all(layer._inbound_nodes[0].outputs[0].dtype == "float32" for layer in found.layers[1:])
    row = asked_backbone(str(tmp_path / "net.keras"))
    row = ready_backbone(row.name, row.own, str(tmp_path / "net.keras"))
    assert row.preprocessing == "-1..1"
    assert {weight.dtype for weight in build(row, OWN, SHAPE).weights} == {"float32"}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_adapted_normalization_and_no_augmentation_remain(policy: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy(policy)
    normalization = L.Normalization()
    normalization.adapt(np.random.default_rng(1).uniform(100, 255, (50, *SHAPE)).astype("float32"))
    augmentation = keras.Sequential([L.RandomFlip(), L.RandomRotation(0.2)])
    image = keras.Input(SHAPE)
    convolution = L.Conv2D(8, 3)
    x = convolution(normalization(L.RandomZoom(0.3)(augmentation(image))))
    keras.Model(image, L.Dense(2, dtype="float32")(L.GlobalAveragePooling2D()(x))).save(tmp_path / "net.keras")
    keras.config.set_dtype_policy("float32")
    row = asked_backbone(str(tmp_path / "net.keras"))
    network = build(ready_backbone(row.name, row.own, str(tmp_path / "net.keras")), OWN, SHAPE)
    images = np.random.default_rng(0).uniform(100, 255, (2, *SHAPE)).astype("float32")
    expected = np.asarray(convolution(normalization(images)), "float32")
    np.testing.assert_allclose(network(images), expected, atol=0.02)  # in training mode or not, nothing is random
    np.testing.assert_allclose(network(images, training=True), expected, atol=0.02)
    assert [type(layer).__name__ for layer in network.layers] == ["InputLayer", "Normalization", "Conv2D"]


def test_a_keras_file_of_keras_2_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    saved(tmp_path / "new.keras", "float32")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name).replace(b"keras.src.models.functional", b"keras.src.engine.functional")
            old.writestr(name, b'{"keras_version": "2.15.0"}' if name == "metadata.json" else content)
    with pytest.raises(ModelError, match=r"written by Keras 2\.15\.0 .*tf_keras.*old\.h5"):
        opened(str(tmp_path / "old.keras"))


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    image = keras.Input(SHAPE)
    x = L.Dense(4)(L.Conv2D(4, 3)(image))
    model = keras.Model(image, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have a `quantize` method", UserWarning)
        model.quantize("int8")
    model.save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match=r"is quantized \(int8.*: give the model from before quantizing"):
        opened(str(tmp_path / "net.keras"))


@pytest.mark.parametrize("line", ['keras.config.set_dtype_policy("mixed_float16")', "options = dict(dtype='bfloat16')"])
def test_a_function_that_makes_other_layers_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"half_{len(line)}"
    (tmp_path / f"{name}.py").write_text(
        "import keras\noptions = {}\n" + line + "\n"
        "def half(weights=None, include_top=False, input_shape=None):\n"
        "    image = keras.Input(input_shape)\n"
        "    return keras.Model(image, keras.layers.Conv2D(4, 3, **options)(image))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ModelError, match=r"half makes layers of .*float16, but hpsearch needs float32 layers"):
        build(asked_backbone(f"{name}:half"), UNTRAINED, SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_what_is_fine_tuned_from_half_precision_exports_to_all_formats(policy: str, tmp_path: Path) -> None:
    saved(tmp_path / "net.keras", policy)
    row = asked_backbone(str(tmp_path / "net.keras"))
    row = ready_backbone(row.name, row.own, str(tmp_path / "net.keras"))
    settings = ClassifierSettings(row, OWN, SHAPE, 3)
    make_classifier(settings, 0.1).joined.save_weights(tmp_path / "own.weights.h5")
    model = tmp_path / FORMATS[KERAS].file
    save_model([Member(settings, 0.1, tmp_path / "own.weights.h5")], model)
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    expected = keras.saving.load_model(model).predict(images, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)  # Keras 3.15 for tf2onnx 1.17
        for name in ("onnx", "litert"):
            FORMATS[name].write(model, tmp_path / FORMATS[name].file)
            found = FORMATS[name].open(tmp_path / FORMATS[name].file).predict(images)
            np.testing.assert_allclose(found, expected, atol=FORMATS[name].tolerance)

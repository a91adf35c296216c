"""The configuration of an exported model: nothing in it that an older Keras refuses without need."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from benchmarks.keras_versions import SIDE, answered, write_models
from models.backbones.user_networks import preprocessing_in
from models.errors import ModelError
from models.formats.conversion import open_format
from models.formats.keras_file import load_model
from models.formats.portable import OLDEST, make_portable, needed_keras
from models.formats.registry import FORMATS

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
NEW_KEYS = {
    "input_axes",
    "output_axes",
    "renorm",
    "renorm_clipping",
    "renorm_momentum",
    "quantization_config",
    "ragged",
}


def small(x: Any) -> Any:
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.ops.flip(x, axis=-1)
    x = keras.layers.Conv2D(4, 3, kernel_initializer="he_normal")(x)
    return keras.layers.BatchNormalization()(x)


def saved(path: Path, features: Any, image: Any) -> np.ndarray:
    x = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(features))
    model = keras.Model(image, x)
    model.save(path)
    found: np.ndarray = model.predict(IMAGES, verbose=0)
    return found


def keys_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, list) else set()


def config_of(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def rewritten(path: Path, target: Path, **members: Any) -> Path:
    """Copy a `.keras` file with other JSON members."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            stem = name.removesuffix(".json")
            new.writestr(name, json.dumps(members[stem]) if stem in members else old.read(name))
    return target


def test_options_at_their_defaults_go_and_the_answers_stay(tmp_path: Path) -> None:
    path, image = tmp_path / "model.keras", keras.Input(SHAPE, dtype="uint8")
    expected = saved(path, small(image), image)
    assert keys_in(config_of(path)) & NEW_KEYS and needed_keras(path) != OLDEST  # as Keras writes it
    assert make_portable(path) == OLDEST == needed_keras(path)
    assert not keys_in(config_of(path)) & NEW_KEYS
    np.testing.assert_array_equal(keras.saving.load_model(path).predict(IMAGES, verbose=0), expected)
    before = path.read_bytes()
    assert make_portable(path) == OLDEST and path.read_bytes() == before


@pytest.mark.parametrize(
    ("layer", "version"),
    [
        (lambda: keras.layers.BatchNormalization(renorm=True), "3.14"),
        (lambda: keras.layers.Conv2D(2, 1, kernel_initializer=keras.initializers.HeNormal(input_axes=-2)), "3.15"),
        (lambda: keras.layers.RMSNormalization(), "3.9"),
        (lambda: keras.layers.Resizing(4, 4, antialias=True), "3.9"),
    ],
    ids=["renorm", "input_axes", "new class", "antialias"],
)
def test_what_matters_stays_and_the_version_it_needs_is_named(layer: Any, version: str, tmp_path: Path) -> None:
    path, image = tmp_path / "model.keras", keras.Input(SHAPE, dtype="uint8")
    expected = saved(path, layer()(small(image)), image)
    assert make_portable(path) == version
    np.testing.assert_array_equal(keras.saving.load_model(path).predict(IMAGES, verbose=0), expected)


def test_an_operation_keeps_a_name_that_a_layer_could_also_have(tmp_path: Path) -> None:
    keras.utils.clear_session()
    path, image = tmp_path / "model.keras", keras.Input(SHAPE, dtype="uint8")
    x = keras.layers.Reshape((4, 16, 3))(keras.layers.Rescaling(1 / 255)(image))
    x = keras.ops.reshape(x, (-1, 16, 4, 3))
    expected = saved(path, x, image)
    assert make_portable(path) == "3.11"  # the first that lets an operation have a name
    keras.utils.clear_session()
    np.testing.assert_array_equal(keras.saving.load_model(path).predict(IMAGES, verbose=0), expected)


@pytest.fixture
def from_the_future(tmp_path: Path) -> Path:
    """A model that a newer Keras wrote, with an option that this one does not know."""
    path, image = tmp_path / "plain.keras", keras.Input(SHAPE, dtype="uint8")
    saved(path, small(image), image)
    config = json.loads(json.dumps(config_of(path)).replace('"input_axes"', '"of_the_future"'))
    return rewritten(path, tmp_path / "model.keras", config=config, metadata={"keras_version": "3.99.1"})


@pytest.mark.parametrize("opened", [load_model, lambda path: preprocessing_in(str(path))], ids=["predict", "backbone"])
def test_a_file_of_a_newer_keras_is_refused_with_both_versions(opened: Any, from_the_future: Path) -> None:
    with pytest.raises(ModelError, match=r"written by Keras 3\.99\.1 and does not work with Keras 3\.") as caught:
        opened(from_the_future)
    assert "\n" not in str(caught.value) and "pip install 'keras>=3.99.1'" in str(caught.value)


def test_a_file_of_a_newer_keras_that_opens_is_used(tmp_path: Path) -> None:
    path, image = tmp_path / "plain.keras", keras.Input(SHAPE, dtype="uint8")
    saved(path, small(image), image)
    assert load_model(rewritten(path, tmp_path / "model.keras", metadata={"keras_version": "3.99.1"}))[1] == SHAPE


def test_a_submission_of_a_newer_keras_ends_with_one_line(from_the_future: Path, tmp_path: Path) -> None:
    row = FORMATS["codabench"]
    assert row.write
    row.write(from_the_future, tmp_path / "codabench.zip")
    with pytest.raises(ModelError, match=r"written by Keras 3\.99\.1 and does not work with Keras 3\.") as caught:
        open_format(row, tmp_path / "codabench.zip")
    assert "\n" not in str(caught.value)
    zipfile.ZipFile(tmp_path / "codabench.zip").extractall(tmp_path / "unzipped")
    model = runpy.run_path(str(tmp_path / "unzipped" / "model.py"))["Model"]
    with pytest.raises(SystemExit, match=r"^model\.keras was written by Keras 3\.99\.1 .*") as ended:
        model()
    assert "\n" not in str(ended.value)
    shutil.copy(tmp_path / "codabench.zip", tmp_path / "unzipped" / "model.keras")
    with pytest.raises(SystemExit, match=r"^model\.keras is no Keras model"):
        model()


OLD_VERSIONS = ("3.4.1", "3.8.0", "3.12.0", "3.14.0")


@pytest.mark.slow
@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_older_versions_of_keras_give_the_same_answers(version: str, tmp_path: Path) -> None:
    target = tmp_path / "keras"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), f"keras=={version}"]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"Keras {version} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    images = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    for model in write_models("small_cnn", tmp_path, images):
        for backend in ("tensorflow", "jax", "numpy"):
            found = answered(model, tmp_path / "images.npy", target, backend)
            assert float(found) < 1e-5, found

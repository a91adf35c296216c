"""A `.keras` file that older versions of Keras open: the config it has, and real old versions that open it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from benchmarks.keras_versions import SIDE, answered, write_models
from models.backbones.own_model import opened
from models.errors import ModelError
from models.formats.keras_file import load_model
from models.formats.portable import OLDEST, OPTIONS, make_portable, needed_keras
from models.keras_versions import METADATA, newer_keras

OLD_VERSIONS = ("3.4.1", "3.8.0", "3.12.0", "3.14.0")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model as Keras saves it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), dtype="uint8")
    features = keras.layers.Conv2D(2, 3)(keras.layers.Rescaling(1 / 255)(image))
    features = keras.layers.BatchNormalization()(features)
    answer = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(features))
    keras.Model(image, answer).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def configs(value: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object in a config."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from configs(inner)
    if isinstance(value, dict) and "class_name" in value and isinstance(value.get("config"), dict):
        yield value


def rewritten(path: Path, member: str, change: dict[str, Any]) -> None:
    """Change the JSON of a member of the file: top-level keys, or keys of the last layer's config."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    parsed = json.loads(content[member])
    (parsed if member == METADATA else parsed["config"]["layers"][-1]["config"]).update(change)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, json.dumps(parsed) if name == member else data)


def test_options_at_their_defaults_are_dropped_and_answers_stay(saved: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    before = keras.saving.load_model(saved).predict(images, verbose=0)
    assert make_portable(saved) == needed_keras(saved) == OLDEST
    np.testing.assert_array_equal(keras.saving.load_model(saved).predict(images, verbose=0), before)
    with zipfile.ZipFile(saved) as archive:
        found = {
            (one["class_name"], key)
            for one in configs(json.loads(archive.read("config.json")))
            for key in one["config"]
        }
    new = {(name, option.name) for option in OPTIONS for name in option.classes.split()}
    assert {"BatchNormalization", "Dense", "GlorotUniform"} <= {name for name, _ in found}
    assert not found & new


def test_an_option_that_has_an_effect_stays_and_its_version_is_named(saved: Path) -> None:
    rewritten(saved, "config.json", {"quantization_config": {"block_size": 8}})
    assert make_portable(saved) == "3.13"


def test_a_file_of_a_newer_keras_is_named_with_both_versions(saved: Path) -> None:
    assert newer_keras(saved) is None
    rewritten(saved, METADATA, {"keras_version": "9.1.0"})
    rewritten(saved, "config.json", {"an_option_of_tomorrow": 1})
    words = rf"was written by Keras 9\.1\.0 and does not work with Keras {keras.__version__}, which is installed: pip"
    for read in (load_model, lambda path: opened(str(path))):
        with pytest.raises(ModelError, match=words):
            read(saved)


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

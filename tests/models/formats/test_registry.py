"""Every format of an exported model gives what the Keras model gives, by its own runtime."""

from __future__ import annotations

import runpy
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from models.backbones.registry import backbone_named
from models.errors import ModelError
from models.formats.conversion import check_installed, largest_difference, open_format, write_format
from models.formats.keras_file import Member, save_model
from models.formats.registry import BATCH, FORMATS, KERAS, Format
from models.networks.classifier import ClassifierSettings, make_classifier

SHAPE = (16, 16, 3)
CONVERTED = [row for row in FORMATS.values() if row.write]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with VGG's preprocessing that looks at each image turned and mirrored, in every format.

    With images.npy, more than a batch of them, and expected.npy, the Keras model's probabilities.
    """
    made = tmp_path_factory.mktemp("formats")
    backbone = replace(backbone_named("small_cnn"), preprocessing="bgr-mean")
    settings = ClassifierSettings(backbone, "none", SHAPE, 3)
    keras.utils.set_random_seed(0)
    model = made / FORMATS[KERAS].file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.backbones.small_cnn.WIDTHS", (8,))  # the views make eight of it
        make_classifier(settings, 0.1).joined.save_weights(made / "own.weights.h5")
        save_model([Member(settings, 0.1, made / "own.weights.h5")], model, orientations=True)
    images = np.random.default_rng(0).integers(0, 256, (BATCH + 9, *SHAPE), dtype=np.uint8)
    np.save(made / "images.npy", images)
    np.save(made / "expected.npy", keras.saving.load_model(model).predict(images, verbose=0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)  # Keras 3.15 for tf2onnx 1.17
        for row in CONVERTED:
            row.write(model, made / row.file)
    return made


@pytest.mark.parametrize("row", CONVERTED, ids=lambda row: row.name)
def test_a_format_agrees_with_the_keras_model_in_a_fresh_process(row: Format, folder: Path, tmp_path: Path) -> None:
    expected = np.load(folder / "expected.npy")
    assert np.ptp(expected, axis=0).max() > 1e-3  # or all images were alike to the network
    found = largest_difference(row, folder / row.file, folder / "images.npy", expected, tmp_path)
    assert found <= row.tolerance


@pytest.mark.parametrize("name", ["a[b]c", "a*?", "#1%20", "-dash 'q\"", "trailing\n"])
def test_a_saved_model_opens_in_a_folder_of_any_name(name: str, folder: Path, tmp_path: Path) -> None:
    row = FORMATS["saved_model"]
    shutil.copytree(folder / row.file, tmp_path / name / row.file)
    images, expected = np.load(folder / "images.npy")[:4], np.load(folder / "expected.npy")[:4]
    assert np.allclose(row.open(tmp_path / name / row.file).predict(images), expected, atol=row.tolerance)


def test_a_format_that_disagrees_is_refused(folder: Path, tmp_path: Path) -> None:
    row, expected = FORMATS["onnx"], np.load(folder / "expected.npy")
    expected[-1] += 2 * row.tolerance
    with pytest.raises(ModelError, match=r"probabilities differ by 0\.0002 .*leave out --format onnx"):
        largest_difference(row, folder / row.file, folder / "images.npy", expected, tmp_path)
    (tmp_path / row.file).write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"does not open or predict in a fresh process: .*leave out --format onnx"):
        largest_difference(row, tmp_path / row.file, folder / "images.npy", expected, tmp_path)


@pytest.mark.parametrize("row", CONVERTED, ids=lambda row: row.name)
def test_a_format_takes_any_number_of_raw_images(row: Format, folder: Path) -> None:
    runtime = open_format(row, folder / row.file)
    assert runtime.image_shape == SHAPE
    images, expected = np.load(folder / "images.npy"), np.load(folder / "expected.npy")
    for count in (3, 1, 5):
        found = runtime.predict(images[:count])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:count], atol=row.tolerance)


@pytest.mark.parametrize("row", CONVERTED, ids=lambda row: row.name)
def test_the_usage_that_the_card_shows_runs(row: Format, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    images, expected = np.load("images.npy")[:4], np.load("expected.npy")[:4]
    if row.name == "codabench":
        zipfile.ZipFile(row.file).extractall(folder)
        monkeypatch.syspath_prepend(str(folder))
    names = {"images": images}
    exec(row.usage, names)
    if "labels" in names:
        assert names["labels"].tolist() == expected.argmax(axis=1).tolist()
    else:
        np.testing.assert_allclose(names["probabilities"], expected, atol=row.tolerance)


@pytest.mark.parametrize("row", FORMATS.values(), ids=lambda row: row.name)
def test_a_damaged_file_is_refused_in_one_line(row: Format, tmp_path: Path) -> None:
    (tmp_path / row.file).write_bytes(b"no model")
    with pytest.raises(ModelError, match="does not open as") as caught:
        open_format(row, tmp_path / row.file)
    assert "\n" not in str(caught.value)


def test_what_is_not_installed_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.formats.conversion.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs onnxruntime, which must be installed: pip install 'hpsearch\[onnx\]'"):
        check_installed(FORMATS["onnx"])
    with pytest.raises(ModelError, match=r"needs onnx, tf2onnx, onnxruntime, .*\[onnx\]"):
        check_installed(FORMATS["onnx"], writing=True)


def test_a_model_that_cannot_be_converted_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be written as Codabench submission.*FileNotFoundError.*nothing was"):
        write_format(FORMATS["codabench"], tmp_path / "none.keras", tmp_path / "codabench.zip")


def test_a_submission_gives_labels_and_refuses_what_is_no_raw_image(folder: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(folder / "codabench.zip").extractall(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.py", "model.keras"}
    model = runpy.run_path(str(tmp_path / "model.py"))["Model"]()
    images, expected = np.load(folder / "images.npy")[:4], np.load(folder / "expected.npy")[:4].argmax(axis=1)
    labels = model.predict(images)
    assert labels.dtype.kind == "i" and labels.tolist() == expected.tolist()
    assert model.predict(images[0]).tolist() == [expected[0]]
    assert model.predict(images.astype("float64")).tolist() == expected.tolist()
    for wrong in (images / 255, images.astype(int) - 1, images[:, :8], np.full((1, *SHAPE), np.nan)):
        with pytest.raises(ValueError, match="X must"):
            model.predict(wrong)

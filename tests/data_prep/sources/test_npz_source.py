"""Arrays of other shapes, dtypes and keys than the plain ones: what is certain is read, what is doubtful is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_images import tiny_images
from tiny_sources import COUNTS, medmnist_arrays, negatives

from data_prep.errors import DataError
from data_prep.sources import npz_source
from data_prep.sources.npz_source import read_images, read_npz
from data_prep.sources.registry import read_source
from data_prep.storage import spilled_arrays
from data_prep.storage.reader import PreparedSet
from search.cli import main

BYTES, LABELS = tiny_images(6, size=16)
BYTES[0, 0, 0] = 255
GREY = BYTES[..., 0]
ONE_HOT = np.eye(3)[LABELS]
BINARY = (BYTES > 100) * 1.0


def save(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


SAME: list[tuple[str, np.ndarray, str | None]] = [
    ("whole floats", BYTES.astype(np.float32), None),
    ("half floats", BYTES.astype(np.float16), None),
    ("unit floats", (BYTES / 255).astype(np.float32), None),
    ("unit doubles, big-endian", (BYTES / 255).astype(">f8"), None),
    ("wide integers", BYTES.astype(np.int64), None),
    ("wide unsigned integers", BYTES.astype(np.uint16), None),
    ("fractions, said", BYTES + np.where(BYTES < 255, 0.25, 0), "0..255"),
    ("whole floats, said", BYTES.astype(np.float32), "0..255"),
    ("unit floats, said", BYTES / 255, "0..1"),
    ("bytes, said", BYTES, "0..255"),
    ("column order", np.asfortranarray(BYTES / 255), None),
]


@pytest.mark.parametrize(("images", "said"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_numbers_whose_range_is_certain_become_bytes(tmp_path: Path, images: np.ndarray, said: str | None) -> None:
    data = read_npz(save(tmp_path, images=images, labels=LABELS), said)
    assert data.images.dtype == np.uint8 and data.images.flags.c_contiguous and (data.images == BYTES).all()
    if said is None:
        assert (read_images(tmp_path / "a.npz")[0] == BYTES).all()


BLACK_AND_WHITE: list[tuple[str, np.ndarray, str | None, int]] = [
    ("booleans", BINARY > 0, None, 255),
    ("floats as units", BINARY, "0..1", 255),
    ("floats as bytes", BINARY, "0..255", 1),
    ("bytes as they are", BINARY.astype(np.uint8), None, 1),
    ("bytes as units", BINARY.astype(np.uint8), "0..1", 255),
]


@pytest.mark.parametrize(
    ("images", "said", "white"), [row[1:] for row in BLACK_AND_WHITE], ids=[row[0] for row in BLACK_AND_WHITE]
)
def test_zeros_and_ones_are_what_is_said(tmp_path: Path, images: np.ndarray, said: str | None, white: int) -> None:
    data = read_npz(save(tmp_path, images=images, labels=LABELS), said)
    assert (data.images == BINARY * white).all()


DOUBTFUL: list[tuple[str, np.ndarray, str | None, str]] = [
    (
        "zeros and ones",
        BINARY,
        None,
        r"with values 0\.\.1, only zeros and ones, which fit 0\.\.1 and 0\.\.255: give the range with .*--val",
    ),
    ("integer ones", BINARY.astype(int), None, r"int64 with values 0\.\.1, only zeros and ones"),
    (
        "fractions",
        BYTES * 0.5,
        None,
        r"values 0\.\.127\.5, some of them fractions, which may be 0\.\.255 .*: give the range with",
    ),
    ("negative", BYTES / 127.5 - 1, None, r"in 0\.\.255 or 0\.\.1, but have -1\.\.1: rescale"),
    ("16 bits", BYTES.astype(np.uint16) * 257, "0..255", r"but have 0\.\.65535: rescale"),
    ("not a number", np.where(BYTES == 255, np.nan, 0.5), "0..1", "some are NaN or infinite"),
    ("infinite", np.where(BYTES == 255, np.inf, 0.5), None, "some are NaN or infinite"),
    ("bytes said to be units", BYTES, "0..1", r"up to 1 for --value-range 0\.\.1, but go up to 255"),
    ("complex", BYTES * 1j, None, "must be numbers, ideally uint8 with values 0..255, but are complex128"),
    ("text", BYTES.astype(str), None, "must be numbers"),
    ("four channels", np.concatenate([BYTES, BYTES[..., :1]], axis=3), None, r"or \(n, h, w\) for grey images"),
]


@pytest.mark.parametrize(("images", "said", "message"), [row[1:] for row in DOUBTFUL], ids=[row[0] for row in DOUBTFUL])
def test_doubtful_numbers_are_refused_with_what_settles_it(
    tmp_path: Path, images: np.ndarray, said: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_npz(save(tmp_path, images=images, labels=LABELS), said)
    assert "\n" not in str(error.value) and "a.npz: images" in str(error.value)


@pytest.mark.parametrize("images", [GREY, GREY[..., None], GREY / 255, np.asfortranarray(GREY)])
def test_grey_images_have_three_equal_channels(tmp_path: Path, images: np.ndarray) -> None:
    found = read_npz(save(tmp_path, images=images, labels=LABELS)).images
    assert found.shape == (6, 16, 16, 3) and (found == GREY[..., None]).all()


def test_large_arrays_are_converted_in_pieces_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, images=(GREY / 255).astype(np.float32), labels=LABELS)
    monkeypatch.setattr(spilled_arrays, "IN_MEMORY", 100)
    monkeypatch.setattr(npz_source, "_CHUNK", 1001)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = read_npz(path).images
    assert isinstance(found, np.memmap) and (found == GREY[..., None]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
def test_one_hot_labels_are_numbers_of_columns(tmp_path: Path, dtype: type) -> None:
    data = read_npz(save(tmp_path, images=BYTES, labels=np.c_[ONE_HOT, np.zeros(6)].astype(dtype)))
    assert data.labels.tolist() == LABELS.tolist() and data.labels.dtype == np.int64
    assert data.class_names == ("0", "1", "2", "3")  # a column without images is a class all the same


NAMES = np.array(["red", "green", "blå"])


@pytest.mark.parametrize(
    "labels",
    [NAMES[LABELS], NAMES[LABELS][:, None], np.char.encode(NAMES[LABELS], "utf-8"), np.char.ljust(NAMES, 9)[LABELS]],
)
def test_labels_may_be_names(tmp_path: Path, labels: np.ndarray) -> None:
    data = read_npz(save(tmp_path, images=BYTES, labels=labels))
    assert data.class_names == ("blå", "green", "red") and data.labels.dtype == np.int64
    assert [data.class_names[label] for label in data.labels] == NAMES[LABELS].tolist()
    path = str(tmp_path / "a.npz")
    assert read_source(path, class_names=data.class_names).class_names == data.class_names
    with pytest.raises(
        DataError, match=r"sources that number their classes, but .* has blå, green, red: drop --class-names"
    ):
        read_source(path, class_names=("blå", "red", "green"))


def test_names_are_one_list_over_all_sides_and_numbers_among_them_by_value(tmp_path: Path) -> None:
    arrays = medmnist_arrays()
    for key in [key for key in arrays if key.endswith("labels")]:
        arrays[key] = np.array(["10", "9", "other"])[arrays[key].astype(int) % 3]
    arrays["val_labels"] = np.full_like(arrays["val_labels"], "9")
    data = read_npz(save(tmp_path, **arrays))
    assert data.class_names == ("9", "10", "other") and data.sides is not None
    assert [data.class_names[label] for label in data.labels[data.sides == 2]] == arrays["test_labels"][:, 0].tolist()
    arrays["val_labels"] = np.zeros(len(arrays["val_labels"]), int)
    with pytest.raises(DataError, match="train_labels, test_labels are names and val_labels are numbers: write"):
        read_npz(save(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["red", "", "blue"], "each name in labels must be printable text, but row 1 is ''"),
        (["red", "gr\neen", "blue"], r"row 1 is 'gr\\neen'"),
        (["red", "Red", "blue"], "the classes 'Red' and 'red', which differ only in case"),
        ([b"red", b"gr\xfcn", b"blue"], "must be readable names, but are not .*: write them as UTF-8"),
        ([0.5, 1.0, 2.0], "labels must be integers or names, but are float64"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path: Path, names: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_npz(save(tmp_path, images=BYTES[:3], labels=np.array(names)))


def _at_row_four(*values: float) -> np.ndarray:
    labels = ONE_HOT.copy()
    labels[4] = values
    return labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (_at_row_four(1, 0, 1), "one 1 and otherwise 0, but row 4 is 1 0 1: an image can have one class only"),
        (_at_row_four(0, 0, 0), "row 4 is 0 0 0"),
        (_at_row_four(0.1, 0.9, 0), "row 4 is 0.1 0.9 0"),
        (_at_row_four(1, np.nan, 0), "row 4 is 1 nan 0"),
        (ONE_HOT.astype(str), "one-hot labels must be numbers, but are <U"),
        (np.zeros((6, 10_001), np.int8), "at most 10000 columns"),
    ],
)
def test_rows_that_are_not_one_hot_are_named(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_npz(save(tmp_path, images=BYTES, labels=labels))


def test_the_keys_of_medmnist_are_a_split_of_the_files_own(tmp_path: Path) -> None:
    arrays = medmnist_arrays()
    data = read_npz(save(tmp_path, **arrays))
    assert data.sides is not None and np.bincount(data.sides).tolist() == list(COUNTS.values())
    assert (data.images == np.concatenate([arrays[f"{side}_images"] for side in COUNTS])).all()
    assert (data.labels == np.concatenate([arrays[f"{side}_labels"][:, 0] for side in COUNTS])).all()
    assert data.names[0] == "train/0" and data.names[30] == "val/0" and data.names[-1] == "test/8"


def test_images_of_all_sides_that_are_there_are_read_without_labels(tmp_path: Path) -> None:
    images, names = read_images(save(tmp_path, test_images=BYTES[:2]))
    assert (images == BYTES[:2]).all() and names == ("test/0", "test/1")
    images, names = read_images(save(tmp_path, train_images=BYTES[:2], val_images=BYTES[2:3], train_labels=LABELS[:2]))
    assert (images == BYTES[:3]).all() and names == ("train/0", "train/1", "val/0")


WRONG_KEYS: list[tuple[str, dict[str, Any], str]] = [
    (
        "two layouts",
        {"images": BYTES, "labels": LABELS},
        "one set of keys, but has images, train_images, val_images, ",
    ),
    (
        "keras beside",
        {"x_train": BYTES},
        "but has train_images, val_images, test_images, x_train: write a file without",
    ),
    ("a side missing", {"val_images": None}, "test_labels, but val_images is missing; its keys: test_images, "),
    (
        "other sizes",
        {"val_images": np.zeros((12, 9, 9, 3), np.uint8)},
        r"one size and dtype, .*val_images uint8 \(9, 9",
    ),
    ("other dtypes", {"val_images": np.zeros((12, 32, 32, 3))}, r"one size and dtype, .*val_images float64 \(32, 32"),
    ("fewer labels", {"val_labels": LABELS}, "val_images and val_labels must have the same length, but have 12 and 6"),
]


@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in WRONG_KEYS], ids=[row[0] for row in WRONG_KEYS])
def test_keys_that_contradict_one_another_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arrays = medmnist_arrays() | changes
    path = save(tmp_path, **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=message):
        read_npz(path)


@pytest.mark.parametrize("names", ["red, green,blue", "names.txt"])
def test_prepare_names_classes_and_takes_a_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setattr("data_prep.augmentation.levels.augment", negatives)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    images, labels = tiny_images(30)
    save(tmp_path, images=images + 0.25, labels=np.eye(3)[labels])
    command = ["prepare", "a.npz", "--levels", "low", "--class-names", names]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1 and "give the range with `hpsearch prepare --value-range`" in refused.output
    done = CliRunner().invoke(main, [*command, "--value-range", "0..255"])
    assert done.exit_code == 0, done.output
    made = PreparedSet.open(tmp_path / "hpsearch-workspace" / "prepared")
    assert made.class_names == ("red", "green", "blue") and made.manifest["settings"]["value_range"] == "0..255"
    assert made.manifest["settings"]["class_names"] == ["red", "green", "blue"]
    again = CliRunner().invoke(main, [*command[:-1], "red,green,yellow"])
    assert "class-names was red/green/blue, now red/green/yellow; value-range was 0..255, now none" in again.output
    for wrong in ("red", "absent.txt"):
        refused = CliRunner().invoke(main, [*command[:-1], wrong])
        assert refused.exit_code == 2 and "names with commas between them, or a file" in refused.output

"""`check` finds what was altered, with checksums rewritten each time."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.check import check
from data_prep.errors import DataError


@pytest.fixture
def folder(tiny_workspace: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_workspace / "prepared", tmp_path / "set")
    return tmp_path / "set"


def rewrite_checksums(folder: Path) -> None:
    for path in (folder / "manifest.json", folder / "bank" / "0000" / "manifest.json"):
        if not path.is_file():
            continue
        manifest = json.loads(path.read_text())
        manifest["files"] = {
            name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in manifest["files"]
        }
        path.write_text(json.dumps(manifest))


def edit(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r+")
    return array


def test_a_fresh_set_is_sound(folder: Path) -> None:
    assert check(folder) == []


def test_an_altered_file_is_found_by_its_checksum(folder: Path) -> None:
    edit(folder / "bank" / "0000" / "low.npy")[3, 0, 0, 0, 0] ^= 1
    (problem,) = check(folder)
    assert "low.npy was altered" in problem


def _training_over_validation(folder: Path) -> None:
    edit(folder / "validation_images.npy")[2] = edit(folder / "train_images.npy")[5]


def _near_copy_in_test(folder: Path) -> None:
    near = np.clip(edit(folder / "train_images.npy")[7].astype(int) + 5, 0, 255)
    edit(folder / "test_images.npy")[0] = near


def _view_in_validation(folder: Path) -> None:
    parents, views = edit(folder / "train_images.npy"), edit(folder / "bank" / "0000" / "low.npy")
    changed = np.abs(parents.astype(int) - views[:, 0]).mean(axis=(1, 2, 3)).argmax()
    edit(folder / "validation_images.npy")[1] = views[changed, 0]


def _label(folder: Path) -> None:
    edit(folder / "test_labels.npy")[0] = 3


def _class_gone(folder: Path) -> None:
    edit(folder / "test_labels.npy")[:] = 1


def _group_on_two_sides(folder: Path) -> None:
    lines = (folder / "images.csv").read_text().splitlines()
    at = lines[0].split(",").index("group")
    rows = [line.split(",") for line in lines]
    sides = {row[at + 1]: row for row in rows[1:]}
    sides["test"][at] = sides["train"][at]
    (folder / "images.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")


def _row_missing(folder: Path) -> None:
    lines = (folder / "images.csv").read_text().splitlines()
    (folder / "images.csv").write_text("\n".join(lines[:-1]) + "\n")


def _names(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["class_names"] = manifest["class_names"][::-1]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _fewer_images(folder: Path) -> None:
    np.save(folder / "train_images.npy", np.array(edit(folder / "train_images.npy")[:-1]))


def _settings(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["seed"] = 77
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _bank_gone(folder: Path) -> None:
    shutil.rmtree(folder / "bank")


def _file_gone(folder: Path) -> None:
    (folder / "test_labels.npy").write_bytes(b"")


ALTERED: list[tuple[Callable[[Path], None], str]] = [
    (_training_over_validation, "train image 5 (NAME) and validation image 2 (NAME) show the same picture"),
    (_training_over_validation, "validation image 2 (NAME) is not the picture that images.csv describes"),
    (_near_copy_in_test, "train image 7 (NAME) and test image 0 (NAME) show the same picture"),
    (_view_in_validation, "validation image 1 (NAME) is an augmented view (level low) of train image"),
    (_label, "test labels must be 0 to 2"),
    (_class_gone, "test has no image of class 0"),
    (_group_on_two_sides, "must be in one split, but is in test and train"),
    (_row_missing, "images.csv must list each of"),
    (_names, "has class 0 in images.csv, but 2 in manifest.json"),
    (_fewer_images, "train must have a label for each image"),
    (_settings, "manifest.json was altered: its fingerprint does not match"),
    (_bank_gone, "0000 is missing"),
    (_file_gone, "test_labels.npy cannot be read"),
]


@pytest.mark.parametrize(("alter", "problem"), ALTERED, ids=[f"{row[0].__name__[1:]}-{row[1][:9]}" for row in ALTERED])
def test_what_was_altered_together_with_its_checksum_is_found(
    folder: Path, alter: Callable[[Path], None], problem: str
) -> None:
    alter(folder)
    rewrite_checksums(folder)
    parts = problem.split("(NAME)")
    found = check(folder)
    assert any(all(part.strip() in line for part in parts) for line in found), found
    assert not any("checksum" in line for line in found)
    assert all("\n" not in line for line in found)


def test_many_problems_of_a_kind_are_counted(folder: Path) -> None:
    images = edit(folder / "train_images.npy")
    images[:] = 255 - images
    rewrite_checksums(folder)
    assert any("more of this kind" in line for line in check(folder))


def test_there_must_be_a_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no prepared set"):
        check(tmp_path)

"""A split that a source brings: kept, cleaned of what reaches from one side into a later one, and checked."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from tiny_images import tiny_images
from tiny_sources import COUNTS, medmnist_arrays, negatives

from data_prep.check import check
from data_prep.errors import DataError
from data_prep.prepare import decide, prepare
from data_prep.progress import Silent
from data_prep.settings import SPLITS, PrepareSettings
from data_prep.sources.labelled_images import LabelledImages
from data_prep.storage.images_csv import REJECTED, ImageRow, read_table
from data_prep.storage.reader import PreparedSet

REACHING = "in a group with a later side"


@pytest.fixture
def no_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow is slow to start, and not what is tested here."""
    monkeypatch.setattr("data_prep.augmentation.levels.augment", negatives)


def near_copy(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(int) + 4, 0, 255).astype(np.uint8)


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Near copies: train 0 of test 3, train 3 of val 0, val 6 of test 0; train 6 is test 6."""
    arrays = medmnist_arrays()
    train, val, test = (arrays[f"{side}_images"] for side in COUNTS)
    train[0], train[3], val[6], train[6] = near_copy(test[3]), near_copy(val[0]), near_copy(test[0]), test[6]
    np.savez(tmp_path / "leaking.npz", **arrays)  # type: ignore[arg-type]
    return tmp_path / "leaking.npz"


def rows(folder: Path) -> dict[str, ImageRow]:
    return {row.name: row for row in read_table(folder / "images.csv")}


def test_images_that_reach_into_a_later_side_are_listed_and_left_out(
    leaking: Path, tmp_path: Path, no_augmentation: None
) -> None:
    folder = tmp_path / "set"
    manifest = prepare(PrepareSettings(str(leaking), levels=("low",)), folder).manifest
    assert manifest["counts"]["rejected"] == {REACHING: 3, "copy": 1} and manifest["settings"]["split"] == "own"
    assert [sum(manifest["counts"]["per_split"][split]) for split in SPLITS] == [27, 11, 9]
    table = rows(folder)
    found = {name: (row.twin, row.detail) for name, row in table.items() if row.reason == REACHING}
    assert found == {
        "train/0": ("test/3", "in the source's train split, but its group is also in test"),
        "train/3": ("val/0", "in the source's train split, but its group is also in validation"),
        "val/6": ("test/0", "in the source's validation split, but its group is also in test"),
    }
    assert table["train/6"].decision == REJECTED and table["train/6"].twin == "test/6"  # what is held out stays
    sides = dict(zip(("train", "val", "test"), SPLITS, strict=True))
    assert all(row.split == sides[name.partition("/")[0]] for name, row in table.items() if row.split)
    assert check(folder) == []
    assert "In a group with a later side: 3" in (folder / "report.html").read_text()


def test_check_finds_a_leak_that_a_split_of_the_sources_own_had(
    leaking: Path, tmp_path: Path, no_augmentation: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.prepare.reaching_later_sides", lambda *_: [])
    prepare(PrepareSettings(str(leaking), levels=("low",)), tmp_path / "set")
    problems = check(tmp_path / "set")
    assert any("(train/0)" in problem and "(test/3)" in problem for problem in problems)
    assert any("must be in one split, but is in test and train" in problem for problem in problems)


def test_a_split_that_is_given_splits_anew(leaking: Path, tmp_path: Path, no_augmentation: None) -> None:
    settings = PrepareSettings(str(leaking), levels=("low",), split=(60, 20, 20))
    manifest = prepare(settings, tmp_path / "set").manifest
    counts = manifest["counts"]
    assert counts["rejected"] == {"copy": 1} and manifest["settings"]["split"] == [60, 20, 20]
    assert [sum(counts["per_split"][split]) for split in SPLITS] != [27, 11, 9]
    with pytest.raises(DataError, match="split was 60/20/20, now own"):
        prepare(PrepareSettings(str(leaking), levels=("low",)), tmp_path / "set")
    with (tmp_path / "set" / "images.csv").open() as file:
        assert any(row["name"].startswith("train/") and row["split"] == "test" for row in csv.DictReader(file))


def test_without_a_split_of_its_own_the_default_is_what_is_recorded(
    tiny_workspace: Path, tiny_npz: Path, tiny_external: Path
) -> None:
    made = PreparedSet.open(tiny_workspace / "prepared").manifest
    assert made["settings"]["split"] == [70, 15, 15] and not {"size", "value_range"} & made["settings"].keys()
    external = (f"other={tiny_external}",)
    explicit = PrepareSettings(str(tiny_npz), levels=("low",), split=(70, 15, 15), external=external)
    assert not prepare(explicit, tiny_workspace / "prepared").created


def sided(labels: list[int], sides: list[int]) -> LabelledImages:
    images, _ = tiny_images(len(labels), seed=5)
    names = tuple(map(str, range(len(labels))))
    return LabelledImages(images, np.array(labels), ("a", "b"), names, sides=np.array(sides, np.int8))


def test_a_class_that_is_missing_on_a_side_is_named() -> None:
    data = sided([0, 1, 0, 1, 0, 0], [0, 0, 1, 1, 2, 2])
    with pytest.raises(
        DataError, match=r"class b must have images in each of .*the source's own split has none in test"
    ):
        decide(data, PrepareSettings("x"), Silent())


def test_limit_takes_a_part_of_each_class_on_each_side() -> None:
    data = sided([0, 1] * 30, [0] * 30 + [1] * 18 + [2] * 12)
    decisions = decide(data, PrepareSettings("x", limit=30), Silent())
    kept = decisions.sides >= 0
    assert (decisions.sides[kept] == data.sides[kept]).all()  # type: ignore[index]
    assert np.bincount(decisions.sides[kept]).tolist() == [15, 9, 6]
    with pytest.raises(
        DataError,
        match=r"limit must be 6 or more of the 60 images, to keep an image of each class in each split, but is 5",
    ):
        decide(data, PrepareSettings("x", limit=5), Silent())

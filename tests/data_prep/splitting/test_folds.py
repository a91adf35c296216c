"""The training side in folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_images import tiny_images

from data_prep.errors import DataError
from data_prep.prepare import prepare
from data_prep.settings import PrepareSettings
from data_prep.splitting.folds import training_folds
from data_prep.storage.images_csv import read_table
from data_prep.storage.reader import PreparedSet


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """Sixty images of which a third has a near copy."""
    folder = tmp_path_factory.mktemp("folds")
    images, labels = tiny_images(60)
    near = images[:21] + np.uint8(5)  # too different for a copy, and alike in form
    np.savez(folder / "some.npz", images=np.concatenate([images, near]), labels=np.concatenate([labels, labels[:21]]))
    prepare(PrepareSettings(str(folder / "some.npz"), levels=("low",), corrupted_views=0), folder / "prepared")
    return PreparedSet.open(folder / "prepared")


def test_folds_are_stratified_and_keep_groups_together(prepared: PreparedSet) -> None:
    folds = training_folds(prepared, 4, seed=0)
    labels = prepared.labels("train")
    sizes = np.array([[((folds == fold) & (labels == label)).sum() for label in range(3)] for fold in range(4)])
    assert sizes.sum() == len(labels)
    assert np.ptp(sizes, axis=0).max() <= 4
    rows = [row for row in read_table(prepared.folder / "images.csv") if row.split == "train"]
    of_group: dict[str, set[int]] = {}
    for row in rows:
        of_group.setdefault(row.group, set()).add(int(folds[int(row.row)]))
    assert len(of_group) < len(rows)  # there are near copies
    assert all(len(places) == 1 for places in of_group.values())


def test_folds_repeat_with_their_seed(prepared: PreparedSet) -> None:
    np.testing.assert_array_equal(training_folds(prepared, 3, seed=1), training_folds(prepared, 3, seed=1))
    assert (training_folds(prepared, 3, seed=1) != training_folds(prepared, 3, seed=2)).any()


def test_groups_that_hold_several_classes_are_dealt_by_their_images(tmp_path: Path) -> None:
    """Patients with images of each class: their first image's class says nothing of the others."""
    images, labels = tiny_images(120)
    patients = [f"{row},p{row // 6}" for row in range(120)]
    (tmp_path / "groups.csv").write_text("\n".join(["image,patient", *patients]))
    np.savez(tmp_path / "some.npz", images=images, labels=labels)
    source, groups = str(tmp_path / "some.npz"), str(tmp_path / "groups.csv")
    prepare(PrepareSettings(source, levels=("low",), corrupted_views=0, groups=groups), tmp_path / "prepared")
    prepared = PreparedSet.open(tmp_path / "prepared")
    folds, of_group = training_folds(prepared, 5, seed=0), prepared.groups("train")
    assert all(len(set(folds[of_group == group])) == 1 for group in set(of_group))
    labels = prepared.labels("train")
    assert all(len(set(labels[folds == fold])) == 3 for fold in range(5))
    with pytest.raises(DataError, match=r"folds must be 2 to \d+, the number of training groups with images of class"):
        training_folds(prepared, 40, seed=0)


@pytest.mark.parametrize("folds", [1, 40])
def test_more_folds_than_a_class_has_groups_are_refused(prepared: PreparedSet, folds: int) -> None:
    with pytest.raises(DataError, match=r"folds must be 2 to \d+, the number of training groups with images of class"):
        training_folds(prepared, folds, seed=0)

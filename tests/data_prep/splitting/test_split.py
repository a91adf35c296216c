"""Groups stay whole, every class is on every side."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.splitting.grouping import group_by_pairs
from data_prep.splitting.split import completed, split_groups, stratified_part

NAMES = ("a", "b", "c")


def test_groups_are_what_pairs_connect_numbered_by_first_image() -> None:
    assert group_by_pairs(6, [(4, 1), (1, 3), (0, 5)]).tolist() == [0, 1, 2, 1, 1, 0]
    assert group_by_pairs(3, []).tolist() == [0, 1, 2]


def test_groups_are_whole_and_shares_hold_within_each_class() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 1000)
    labels = groups % 3
    sides = split_groups(groups, labels, (70, 15, 15), NAMES, seed=1)
    assert all(len(set(sides[groups == group])) == 1 for group in set(groups.tolist()))
    for label in range(3):
        members = np.unique(groups[labels == label])
        share = [np.mean([sides[groups == group][0] == side for group in members]) for side in range(3)]
        assert share == pytest.approx([0.7, 0.15, 0.15], abs=0.01)


def shares(sides: np.ndarray, labels: np.ndarray) -> np.ndarray:
    counts = np.array([[np.sum((sides == side) & (labels == label)) for label in range(3)] for side in range(3)])
    return np.asarray(counts / counts.sum(axis=0))


@pytest.mark.parametrize("seed", range(5))
def test_patients_with_images_of_all_classes_are_dealt_out_evenly(seed: int) -> None:
    """Class a is the most frequent in every patient, and patients differ in size."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(40, 2000, p=rng.dirichlet(np.full(40, 3)))
    labels = rng.choice(3, 2000, p=(0.8, 0.15, 0.05))
    sides = split_groups(groups, labels, (70, 15, 15), NAMES, seed)
    assert all(len(set(sides[groups == group])) == 1 for group in set(groups.tolist()))
    assert np.abs(shares(sides, labels) - np.array([[0.7], [0.15], [0.15]])).max() < 0.06
    assert (sides == split_groups(groups, labels, (70, 15, 15), NAMES, seed)).all()


def test_large_groups_of_one_class_each_go_by_their_size() -> None:
    groups = np.repeat(np.arange(60), np.tile([100, 10, 10, 10, 10, 10], 10))
    labels = groups % 3
    sides = split_groups(groups, labels, (60, 20, 20), NAMES, 0)
    assert np.abs(shares(sides, labels) - np.array([[0.6], [0.2], [0.2]])).max() < 0.08


def test_a_class_that_three_patients_have_is_on_every_side() -> None:
    groups = np.repeat(np.arange(12), 50)
    labels = np.zeros(600, int)
    labels[[0, 60, 110]] = 1
    labels[30::50] = 2
    sides = split_groups(groups, labels, (70, 15, 15), NAMES, 0)
    assert sorted(sides[labels == 1]) == [0, 1, 2]


def test_the_split_follows_its_seed() -> None:
    labels = np.arange(90) % 3
    one, same, other = (split_groups(np.arange(90), labels, (70, 15, 15), NAMES, seed) for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


@pytest.mark.parametrize("split", [(70, 15, 15), (98, 1, 1), (1, 1, 98), (1, 98, 1)])
def test_three_groups_are_enough_whatever_the_shares(split: tuple[int, int, int]) -> None:
    labels = np.array([0] * 3 + [1] * 50)
    sides = split_groups(np.arange(53), labels, split, NAMES[:2], seed=0)
    assert sorted(sides[labels == 0]) == [0, 1, 2]
    assert set(sides[labels == 1]) == {0, 1, 2}


def test_too_few_groups_are_named_with_the_number_needed() -> None:
    labels = np.array([0] * 20 + [1] * 5)
    groups = np.array([*range(20), 20, 20, 20, 21, 21])
    with pytest.raises(DataError, match=r"class b must have images in 3 or more groups .* but has 2 groups after"):
        split_groups(groups, labels, (70, 15, 15), NAMES[:2], seed=0)


def test_a_part_is_stratified_and_says_when_it_is_too_small() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    part = stratified_part(labels, 100, seed=0)
    assert np.bincount(labels[part]).tolist() == [60, 30, 10]
    assert (np.diff(part) > 0).all()
    assert stratified_part(labels, 5000, seed=0).tolist() == list(range(1000))
    rare = np.repeat([0, 1, 2], [1000, 1000, 6])
    for count in (9, 60, 2000, 2005):
        taken = np.bincount(rare[stratified_part(rare, count, seed=1)])
        assert taken.sum() == count and taken.min() >= 3, taken
    with pytest.raises(
        DataError, match=r"limit must be \d+ or more of the .*, to keep 3 images of each class, but is 8"
    ):
        stratified_part(labels, 8, seed=0)


def test_a_split_without_validation_gets_one_from_its_training_images_by_group() -> None:
    labels = np.repeat([0, 1], 40)
    groups = np.arange(80) // 2
    own = np.where(groups % 4 == 0, 2, 0).astype(np.int8)
    sides = completed(own, groups, labels, (70, 15, 15), ("a", "b"), seed=0)
    assert ((sides == 2) == (own == 2)).all()
    for label in (0, 1):
        assert 2 <= (sides[labels == label] == 1).sum() <= 8
    assert all(len(set(sides[groups == group])) == 1 for group in groups)
    whole = np.arange(80, dtype=np.int8) % 3
    assert (completed(whole, np.arange(80), labels, (70, 15, 15), ("a", "b"), seed=0) == whole).all()
    with pytest.raises(DataError, match="class b must have images in each of train, validation, test"):
        completed(np.where(labels == 1, 0, whole).astype(np.int8), np.arange(80), labels, (70, 15, 15), ("a", "b"), 0)

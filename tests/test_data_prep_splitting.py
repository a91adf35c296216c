"""Groups stay whole, every class is on every side."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.splitting import group_by_pairs, split_groups, stratified_part

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
    with pytest.raises(DataError, match=r"class b must have .* but has 2 such groups .* 3 are needed"):
        split_groups(groups, labels, (70, 15, 15), NAMES[:2], seed=0)


def test_a_part_is_stratified_and_says_when_it_is_too_small() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    part = stratified_part(labels, 100, seed=0)
    assert np.bincount(labels[part]).tolist() == [60, 30, 10]
    assert (np.diff(part) > 0).all()
    assert stratified_part(labels, 5000, seed=0).tolist() == list(range(1000))
    with pytest.raises(DataError, match=r"limit must leave 3 images or more a class .* but is 8"):
        stratified_part(labels, 8, seed=0)

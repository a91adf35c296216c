"""The demonstration of the leak: who is on which side, that both sizes agree, and what is said about the outcome."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from data_prep.storage.reader import PreparedSet
from search.cli import main
from search.errors import SearchError
from search.evaluating.leaky_split import (
    Measured,
    Versions,
    divided_by_group,
    explain,
    read_versions,
    split_after,
    split_first,
)

MEASURED = Measured(100, 50, 0.98, accuracy=0.9, macro_f1=0.9, unseen_accuracy=0.7, unseen_macro_f1=0.7, chance=0.1)


def versions_of(images: int, group_size: int = 2, per_image: int = 3) -> Versions:
    """Images of nothing, in groups that have one label each."""
    groups = np.arange(images) // group_size
    pixels = np.zeros((images * per_image, 1, 1, 3), np.uint8)
    return Versions(pixels, (groups % 3).repeat(per_image), groups.astype(str).repeat(per_image), per_image)


def test_split_first_keeps_groups_apart_and_split_after_does_not_in_equal_sizes() -> None:
    versions, pool = versions_of(60), np.arange(48)
    first, after = split_first(versions, pool, seed=0), split_after(versions, pool, seed=0)
    for split in (first, after):
        assert sorted(np.concatenate([split.training, split.validation])) == list(range(48 * 3))
        assert set(versions.labels[split.validation]) == {0, 1, 2}
    assert not set(versions.groups[first.training]) & set(versions.groups[first.validation])
    assert set(versions.groups[after.training]) & set(versions.groups[after.validation])
    assert (len(first.training), len(first.validation)) == (len(after.training), len(after.validation))


def test_whole_groups_are_kept_out_of_both() -> None:
    versions = versions_of(60)
    pool, unseen = divided_by_group(versions, np.arange(60), 1 / 3, seed=0)
    assert len(unseen) == 20
    assert not set(versions.groups[versions.rows_of(pool)]) & set(versions.groups[versions.rows_of(unseen)])


def test_too_few_groups_of_a_class_are_one_line_with_a_way_out() -> None:
    with pytest.raises(SearchError, match="raise --images, or prepare more images"):
        divided_by_group(versions_of(8, group_size=4), np.arange(8), 1 / 3, seed=0)


def test_versions_are_originals_each_followed_by_its_views(tiny_workspace: Path) -> None:
    prepared = PreparedSet.open(tiny_workspace / "prepared")
    versions = read_versions(prepared, 1000, seed=0)
    np.testing.assert_array_equal(versions.images[::2], prepared.images("train"))
    np.testing.assert_array_equal(versions.images[1::2], prepared.bank("low")[:, 0])
    np.testing.assert_array_equal(versions.labels[::2], prepared.labels("train"))
    assert len(read_versions(prepared, 40, seed=0).labels) == 80


@pytest.mark.parametrize(
    ("leaky", "part"),
    [
        (MEASURED, "lies 20.0 points (chance alone explains up to 10.0) above"),
        (replace(MEASURED, accuracy=0.75), "memorizes too little"),
    ],
)
def test_no_more_is_claimed_than_was_measured(leaky: Measured, part: str) -> None:
    text = explain(leaky, replace(MEASURED, accuracy=0.71))
    assert part in text
    assert "98%" in text
    assert "Trust the number of" in text


def test_check_shows_both_scores_without_reading_the_test_set(
    tiny_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_workspace, tmp_path / "workspace")
    monkeypatch.setattr("data_prep.check.check", lambda *_: [])  # which does read it, for leaks
    opened: list[str] = []
    array = PreparedSet._array
    monkeypatch.setattr(
        PreparedSet, "_array", lambda self, name, *rest: opened.append(name) or array(self, name, *rest)
    )
    arguments = ["-w", str(tmp_path / "workspace"), "check", "--what-if-leaky", "--epochs", "1", "--seed", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert opened and not [name for name in opened if "test" in name]
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[-1] for row in rows if row[:4] == ["share", "of", "them", "known"]] == ["0.0000"]
    trained = next(row for row in rows if row[:2] == ["training", "images,"])
    assert trained[-1] == trained[-2]
    assert "Trust the number of" in result.stdout

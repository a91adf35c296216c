"""The held-out fold: nothing is lost, nothing is on both sides, and `prepare` takes what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.held_out_fold import main
from data_prep.sources.npz_source import read_npz
from data_prep.storage.reader import PreparedSet


@pytest.mark.parametrize(
    ("flags", "rest", "fold"),
    [([], ("train", "validation"), ("test",)), (["--keep-test"], ("train",), ("validation",))],
)
def test_the_fold_is_one_side_and_the_source_the_others(
    flags: list[str], rest: tuple[str, ...], fold: tuple[str, ...], tiny_workspace: Path, tmp_path: Path
) -> None:
    main([str(tiny_workspace), str(tmp_path / "rest"), str(tmp_path / "fold.npz"), *flags])
    prepared = PreparedSet.open(tiny_workspace / "prepared")
    for splits, name in ((rest, "rest"), (fold, "fold.npz")):
        data = read_npz(tmp_path / name)
        np.testing.assert_array_equal(data.images, np.concatenate([prepared.images(split) for split in splits]))
        np.testing.assert_array_equal(data.labels, np.concatenate([prepared.labels(split) for split in splits]))

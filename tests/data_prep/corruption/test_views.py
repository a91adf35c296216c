"""Corrupted views: evenly spread, fixed by the seed, read back with their families."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_prep.check import check
from data_prep.corruption.operations import CORRUPTIONS, families, used
from data_prep.corruption.views import planned, write_corrupted
from data_prep.errors import DataError
from data_prep.progress import Silent
from data_prep.settings import PrepareSettings
from data_prep.storage.reader import CORRUPTED_SETS, PreparedSet

BY_NAME = {row.name: row for row in CORRUPTIONS}


@pytest.mark.parametrize("used_by", ["validation", "test"])
def test_operations_and_strengths_are_spread_evenly(used_by: str) -> None:
    rows = used(used_by)
    plan = planned(9 * len(rows), 4, rows, 1)
    assert [(one.row, one.view) for one in plan] == [(row, view) for row in range(9 * len(rows)) for view in range(4)]
    for view in range(4):
        of = [one for one in plan if one.view == view]
        assert set(Counter((one.first, one.first_strength) for one in of).values()) == {3}
        if view % 2 == 0:
            assert {(one.second, one.second_strength) for one in of} == {("", "")}
        else:
            assert set(Counter((one.second, one.second_strength) for one in of).values()) == {3}
            assert all(BY_NAME[one.first].kind != BY_NAME[one.second].kind for one in of)
    assert plan == planned(9 * len(rows), 4, rows, 1) != planned(9 * len(rows), 4, rows, 2)


def test_a_set_has_views_of_both_held_out_splits(tiny_workspace: Path) -> None:
    made = PreparedSet.open(tiny_workspace / "prepared")
    for split, used_by in CORRUPTED_SETS:
        views = made.corrupted(split, used_by)
        assert views is not None and isinstance(views.images, np.memmap) and views.images.dtype == np.uint8
        assert views.images.shape == (len(made.images(split)), 2, 32, 32, 3)
        assert (views.images != made.images(split)[:, None]).any(axis=(2, 3, 4)).all()
        assert tuple(views.families) == families(used_by)
        takes_part = np.sum(list(views.families.values()), axis=0)
        assert (takes_part[:, 0] == 1).all() and set(takes_part[:, 1]) <= {1, 2}
    validation = made.corrupted("validation")
    assert validation is not None
    with pytest.raises(DataError, match="there is no 'validation_test' in the prepared set"):
        made.corrupted("validation", "test")


def test_each_view_is_what_its_line_says(tiny_workspace: Path) -> None:
    made = PreparedSet.open(tiny_workspace / "prepared")
    views = made.corrupted("test", "test")
    assert views is not None
    with (made.folder / "corrupted" / "test_test.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == views.images.shape[0] * 2
    plain = [line for line in lines if line["first"] == "uneven illumination" and not line["second"]]
    for line in lines:
        names = [name for name in (line["first"], line["second"]) if name]
        at = int(line["row"]), int(line["view"])
        assert {name for name, has in views.families.items() if has[at]} == {BY_NAME[name].family for name in names}
        assert float(line["first_strength"]) in BY_NAME[line["first"]].strengths
    assert plain and made.manifest["corrupted"]["operations"]["bubble"]["family"] == "occlusion"


def test_the_seed_alone_decides(tiny_workspace: Path, tmp_path: Path) -> None:
    def written(seed: int, folder: Path) -> bytes:
        folder.mkdir()
        for split in ("validation", "test"):
            shutil.copy(tiny_workspace / "prepared" / f"{split}_images.npy", folder)
        write_corrupted(folder, PrepareSettings("demo", seed=seed), Silent())
        return (folder / "corrupted" / "test_validation.npy").read_bytes()

    again, other = written(0, tmp_path / "again"), written(1, tmp_path / "other")
    assert again == (tiny_workspace / "prepared" / "corrupted" / "test_validation.npy").read_bytes() != other


def test_none_are_written_where_none_are_asked_for(tiny_workspace: Path, tmp_path: Path) -> None:
    entry = write_corrupted(tmp_path, PrepareSettings("demo", corrupted_views=0), Silent())
    assert entry == {"views": 0, "files": [], "operations": {}} and not list(tmp_path.iterdir())
    folder = tmp_path / "set"
    shutil.copytree(tiny_workspace / "prepared", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"corrupted": entry}))
    assert PreparedSet.open(folder).corrupted("validation") is None


def test_a_set_of_version_1_has_none(tiny_workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(tiny_workspace / "prepared", folder, ignore=shutil.ignore_patterns("corrupted"))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["corrupted"]
    manifest["files"] = {name: mark for name, mark in manifest["files"].items() if not name.startswith("corrupted/")}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": 1}))
    assert PreparedSet.open(folder).corrupted("test", "test") is None
    assert check(folder) == []


def test_check_looks_at_the_views(tiny_workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(tiny_workspace / "prepared", folder)
    np.load(folder / "corrupted" / "test_test.npy", mmap_mode="r+")[1, 0, 0, 0, 0] ^= 1
    lines = (folder / "corrupted" / "validation_validation.csv").read_text().splitlines()
    (folder / "corrupted" / "validation_validation.csv").write_text("\n".join(lines[:-1]) + "\n")
    np.save(folder / "corrupted" / "test_validation.npy", np.zeros((3, 2, 32, 32, 3), np.uint8))
    problems = "\n".join(check(folder))
    for problem in (
        "test_test.npy was altered",
        "validation_validation.csv must name a corruption for each view",
        "test_validation.npy must be uint8 of shape (12, 2, 32, 32, 3), but is uint8 of shape (3, 2, 32, 32, 3)",
    ):
        assert problem in problems


def test_reading_them_needs_no_drawing_library(tiny_workspace: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from data_prep.storage.reader import PreparedSet\n"
        f"PreparedSet.open(Path({str(tiny_workspace / 'prepared')!r})).corrupted('validation')\n"
        "print([name for name in ('cv2', 'albumentations', 'scipy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"

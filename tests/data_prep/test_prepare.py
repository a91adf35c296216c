"""A prepared set on disk: what it holds, when it is made again, what an interruption leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import prepare as preparing
from data_prep.check import check
from data_prep.errors import DataError
from data_prep.prepare import prepare
from data_prep.settings import SPLITS, PrepareSettings
from data_prep.storage import writer
from data_prep.storage.images_csv import KEPT, LEFT_OUT, read_table
from data_prep.storage.reader import PreparedSet, previous
from data_prep.storage.writer import unfinished


@pytest.fixture
def no_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views that are negatives: TensorFlow is slow to start, and not what is tested here."""

    def negatives(images: np.ndarray, views: dict[str, np.ndarray], *_: Any) -> None:
        for array in views.values():
            array[:] = 255 - images[:, None]

    monkeypatch.setattr("data_prep.augmentation.levels.augment", negatives)


@pytest.fixture
def settings(tiny_npz: Path, no_augmentation: None) -> PrepareSettings:
    return PrepareSettings(str(tiny_npz), levels=("low", "hard"), copies=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_holds_what_its_manifest_and_table_say(tiny_npz: Path, settings: PrepareSettings, tmp_path: Path) -> None:
    outcome = prepare(settings, tmp_path / "set")
    made, source = PreparedSet.open(tmp_path / "set"), np.load(tiny_npz)
    assert outcome.created and outcome.manifest == made.manifest
    assert made.class_names == ("0", "1", "2") and made.image_shape == (32, 32, 3) and made.levels == ("low", "hard")
    assert len(made.fingerprint) == 64 and made.source == str(tiny_npz)
    assert [len(made.images(split)) for split in SPLITS] == [66, 12, 12]
    for row in read_table(tmp_path / "set" / "images.csv"):
        assert row.decision == KEPT
        index, place = int(row.name), int(row.row)
        assert (made.images(row.split)[place] == source["images"][index]).all()
        assert made.labels(row.split)[place] == source["labels"][index] == int(row.label)
    assert made.images("train").dtype == np.uint8 and isinstance(made.images("train"), np.memmap)
    assert (made.bank("hard")[:, 1] == 255 - made.images("train")).all() and made.bank("low").shape[1] == 2
    assert made.class_weights == pytest.approx((1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="there is no 'medium' in the prepared set: it has low, hard"):
        made.bank("medium")


def test_the_same_options_do_nothing_and_others_ask_for_force(settings: PrepareSettings, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    first = prepare(settings, folder)
    before = contents(folder)
    again = prepare(settings, folder)
    assert not again.created and again.manifest == first.manifest and contents(folder) == before
    other = PrepareSettings(settings.source, levels=("low",), copies=2, seed=5)
    with pytest.raises(DataError, match=r"levels was low/hard, now low; seed was 0, now 5\): give --force"):
        prepare(other, folder)
    assert contents(folder) == before
    assert prepare(other, folder, force=True).manifest["fingerprint"] != first.manifest["fingerprint"]
    assert PreparedSet.open(folder).levels == ("low",)
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_a_level_may_have_its_own_number_of_copies(settings: PrepareSettings, tmp_path: Path) -> None:
    prepare(replace(settings, levels=("low", "strong*3")), tmp_path / "set")
    made = PreparedSet.open(tmp_path / "set")
    assert made.levels == ("low", "strong")
    assert [made.bank(level).shape[:2] for level in made.levels] == [(66, 2), (66, 3)]


def test_a_set_without_views_needs_no_augmentation(
    settings: PrepareSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.augmentation.levels.augment", lambda *_: pytest.fail("there is nothing to augment"))
    prepare(replace(settings, levels=()), tmp_path / "set")
    assert PreparedSet.open(tmp_path / "set").levels == ()
    assert check(tmp_path / "set") == []
    assert "Augmented views" not in (tmp_path / "set" / "report.html").read_text()


def test_other_content_is_another_set_another_place_is_not(settings: PrepareSettings, tmp_path: Path) -> None:
    folder, moved = tmp_path / "set", tmp_path / "moved.npz"
    prepare(settings, folder)
    shutil.copy(settings.source, moved)
    again = PrepareSettings(str(moved), levels=("low", "hard"), copies=2)
    assert not prepare(again, folder).created
    with np.load(moved) as arrays:
        np.savez(moved, images=arrays["images"] ^ 1, labels=arrays["labels"])
    with pytest.raises(DataError, match="the source's content changed"):
        prepare(again, folder)


def test_the_same_preparation_has_the_same_fingerprint_and_files(settings: PrepareSettings, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare(settings, tmp_path / name)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one == two


def test_limit_takes_a_stratified_part_and_lists_the_rest(settings: PrepareSettings, tmp_path: Path) -> None:
    outcome = prepare(PrepareSettings(settings.source, limit=45), tmp_path / "set")
    counts = outcome.manifest["counts"]
    assert (counts["kept"], counts["left_out"]) == (45, 45)
    assert [sum(column) for column in zip(*counts["per_split"].values(), strict=True)] == [15, 15, 15]
    assert sum(row.decision == LEFT_OUT for row in read_table(tmp_path / "set" / "images.csv")) == 45


def test_a_failure_leaves_what_was_there(
    settings: PrepareSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    prepare(settings, folder)
    before = contents(folder)
    for error, raised in (
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), DataError),
    ):

        def fail(*_: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(preparing, "write_generation", fail)
        for target in (folder, tmp_path / "other"):
            with pytest.raises(raised):
                prepare(settings, target, force=True)
        assert contents(folder) == before
        assert {path.name for path in tmp_path.iterdir()} == {"set"}


KILLED = """
import os, sys
from pathlib import Path
from data_prep.storage import writer
step, folder = sys.argv[1], Path(sys.argv[2])
def die(*_): os._exit(9)
rename, count = os.rename, 0
def counted(*args):
    global count
    count += 1
    rename(*args)
    if step == f"rename {count}": die()
os.rename = counted
with writer.building(folder) as new:
    (new / "manifest.json").write_text("new")
    if step == "writing": die()
    if step == "syncing": writer.sync = die
"""


@pytest.mark.parametrize(
    ("step", "left"), [("writing", "old"), ("syncing", "old"), ("rename 1", "old"), ("rename 2", "new")]
)
def test_a_kill_leaves_the_old_set_or_the_new(tmp_path: Path, step: str, left: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, step, str(folder)], check=False)
    assert done.returncode == 9
    writer.tidy(folder)
    assert (folder / "manifest.json").read_text() == left
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_opening_brings_back_a_set_whose_replacement_was_killed(settings: PrepareSettings, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    made = prepare(settings, folder)
    folder.rename(previous(folder))
    unfinished(folder).mkdir()
    assert PreparedSet.open(folder).manifest == made.manifest
    assert not prepare(settings, folder).created


def _other_version(manifest: dict[str, Any]) -> None:
    manifest["format_version"] = 99


def _no_fingerprint(manifest: dict[str, Any]) -> None:
    del manifest["fingerprint"]


@pytest.mark.parametrize(("change", "message"), [(_other_version, "has 99"), (_no_fingerprint, "lacks fingerprint")])
def test_a_foreign_manifest_is_refused(tiny_workspace: Path, tmp_path: Path, change: Any, message: str) -> None:
    shutil.copytree(tiny_workspace / "prepared", tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=message):
        PreparedSet.open(tmp_path / "set")
    with pytest.raises(DataError, match="there is no prepared set in"):
        PreparedSet.open(tmp_path / "nowhere")
    (tmp_path / "set" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        PreparedSet.open(tmp_path / "set")


def test_damaged_arrays_are_named(tiny_workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_workspace / "prepared", tmp_path / "set")
    made = PreparedSet.open(tmp_path / "set")
    np.save(tmp_path / "set" / "test_labels.npy", np.zeros(3))
    os.truncate(tmp_path / "set" / "test_images.npy", 500)
    with pytest.raises(DataError, match=r"test_labels.npy must be int64 of shape .* but is float64"):
        made.labels("test")
    with pytest.raises(DataError, match=r"test_images.npy cannot be read"):
        made.images("test")


def test_reading_a_set_needs_no_heavy_library() -> None:
    heavy = ("tensorflow", "keras", "matplotlib", "sklearn", "scipy", "PIL", "imagehash")
    code = f"import sys, data_prep.storage.reader; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"

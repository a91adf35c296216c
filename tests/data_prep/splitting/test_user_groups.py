"""Patients and slides stay on one side, with near copies; a source that changes is not prepared."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_images import tiny_images

from data_prep.check import check
from data_prep.cleaning.steps import Rejection
from data_prep.errors import DataError
from data_prep.fingerprint import differences, fingerprint, identify
from data_prep.prepare import decide, prepare
from data_prep.progress import Silent
from data_prep.settings import PrepareSettings
from data_prep.sources.labelled_images import LabelledImages, Unreadable
from data_prep.sources.registry import read_source
from data_prep.splitting.user_groups import known_groups, large_groups, united
from data_prep.storage.images_csv import read_table
from data_prep.storage.reader import PreparedSet

HARD_NAMES = ("a, b", 'say "x"', "细胞 1/2")


def images(count: int, groups: np.ndarray | None = None) -> LabelledImages:
    pixels, labels = tiny_images(count)
    names = tuple(str(row) for row in range(count))
    return LabelledImages(
        pixels, labels, ("red", "green", "blue"), names, (Unreadable("bad", "damaged"),), groups=groups
    )


def write(path: Path, groups: dict[str, str], header: str = "image,group") -> str:
    path.write_text("\n".join([header, *(f"{name},{group}" for name, group in groups.items())]), encoding="utf-8")
    return str(path)


def test_whole_patients_go_to_one_side(tmp_path: Path) -> None:
    data = images(90)
    patients = np.maximum(np.arange(90) // 5, 3)
    path = write(tmp_path / "groups.csv", {str(row): f"p{patients[row]}" for row in range(87)} | {"bad": "p1"})
    decisions = decide(data, PrepareSettings("x", groups=path), Silent())
    for patient in range(3, 17):
        assert len(set(decisions.sides[patients == patient])) == 1
        assert len(set(decisions.groups[patients == patient])) == 1
    assert len(set(decisions.groups)) == 15 + 3
    assert any("3 of 90 images have no row in" in warning for warning in decisions.warnings)
    assert any("1 of 18 groups holds more than 5% of a class" in warning for warning in decisions.warnings)
    plain = decide(data, PrepareSettings("x"), Silent())
    assert len(set(plain.groups)) == 90 and not plain.warnings


def test_groups_of_the_source_and_of_the_user_are_united_with_near_copies(tmp_path: Path) -> None:
    data = images(9, np.array([0, 0, 1, 2, 3, 4, 5, 6, 7]))
    known = known_groups(data, write(tmp_path / "g.csv", {"1": "a", "2": "a", "8": "b"}, "row,patient"))
    kept = np.array([0, 2, 3, 4, 5, 7, 8])  # without 1, which ties 0 to 2, and without 6
    gone = [Rejection(1, "contradicting labels", ""), Rejection(6, "copy", "", 0, 5, 5)]
    assert united(known, kept, [(2, 3)], gone).tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert united(known_groups(images(9), None), kept, [(2, 3)], gone).tolist() == [0, 1, 2, 2, 3, 4, 5]


def test_a_copy_that_was_left_out_ties_its_patient_to_that_of_the_copy_kept() -> None:
    known = known_groups(images(4, np.array([0, 0, 1, 1])), None)
    copy = Rejection(1, "copy", "", 0, 2, 2)
    assert united(known, np.array([0, 2, 3]), [], [copy]).tolist() == [0, 0, 0]
    assert united(known, np.array([0, 2, 3]), [], [Rejection(1, "recurring picture", "")]).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,group\n0,a\n77,b\n78,b\n",
            r"must only name images of the source, but 2 of 3 names are unknown, such as 77",
        ),
        ("image,group\n0,a\n0,b\n", "line 3: 0 must have one group, but has b here and a in an earlier line"),
        ("image,group\n0,\n", "line 2: the row must have values for image and group"),
        ("image,colour\n0,red\n", "must have a column group, patient"),
    ],
)
def test_a_table_of_groups_that_does_not_hold_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        known_groups(images(9), str(tmp_path / "g.csv"))


def test_a_large_group_is_named_by_its_largest_share() -> None:
    data = images(90)
    groups = np.arange(90)
    groups[:12] = 0
    groups = np.unique(groups, return_inverse=True)[1]
    (line,) = large_groups(groups, data, np.arange(90))
    assert line.startswith(
        "1 of 79 groups holds more than 5% of a class; the group of 0 holds the most, 4 of the 30 images"
    )
    assert large_groups(np.arange(90), data, np.arange(90)) == []


def draw(folder: Path, rows: list[tuple[str, str, str]]) -> str:
    """Pictures of a table with hard names and groups."""
    folder.mkdir()
    pixels, _ = tiny_images(len(rows), size=16)
    lines = ["path,label,group"]
    for image, (name, label, group) in zip(pixels, rows, strict=True):
        Image.fromarray(image).save(folder / name)
        quoted = label.replace('"', '""')
        lines.append(f'{name},"{quoted}",{group}')
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "labels.csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and its pictures, prepared. Tests that change something copy it."""
    folder = tmp_path_factory.mktemp("made")
    source = draw(folder / "in", [(f"{n}.png", HARD_NAMES[n % 3], f"p{n // 3}") for n in range(45)])
    prepare(settings(source), folder / "prepared")
    return folder


def settings(source: str, **options: object) -> PrepareSettings:
    return PrepareSettings(source, image_size=16, levels=("low",), corrupted_views=0, **options)  # type: ignore[arg-type]


def test_groups_and_hard_names_go_the_whole_way(made: Path) -> None:
    assert PreparedSet.open(made / "prepared").manifest["class_names"] == sorted(HARD_NAMES)
    rows = read_table(made / "prepared" / "images.csv")
    sides = {(int(row.name.removesuffix(".png")) // 3, row.split) for row in rows}
    assert len(sides) == 15 and {row.class_name for row in rows} == set(HARD_NAMES)
    assert check(made / "prepared") == []
    page = (made / "prepared" / "report.html").read_text(encoding="utf-8")
    assert all(name in html.unescape(page) for name in HARD_NAMES)


def test_the_content_of_the_table_of_groups_counts(made: Path, tmp_path: Path) -> None:
    source, groups = str(made / "in" / "labels.csv"), str(tmp_path / "g.csv")
    found = []
    for partner in ("4.png", "5.png"):
        write(tmp_path / "g.csv", {"0.png": "a", partner: "a"})
        found.append(identify(settings(source, groups=groups)))
    assert fingerprint(found[0]) != fingerprint(found[1]) != fingerprint(identify(settings(source)))
    (line,) = differences(*found)
    assert re.fullmatch("groups was [0-9a-f]{8}, now [0-9a-f]{8}", line)
    with pytest.raises(DataError, match=r"gone\.csv cannot be read"):
        identify(settings(source, groups="gone.csv"))


class During(Silent):
    """Does something once, when the third picture has been read."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action, self.read = action, 0

    def advance(self, count: int) -> None:
        self.read += count
        if self.read == 3:
            self.action()


@pytest.mark.parametrize("change", ["picture", "gone", "table", "groups"])
def test_a_source_that_changes_while_it_is_read_is_refused(made: Path, tmp_path: Path, change: str) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    table, groups, prepared = tmp_path / "in" / "labels.csv", tmp_path / "g.csv", tmp_path / "prepared"
    write(groups, {"0.png": "a"})
    actions: dict[str, Callable[[], object]] = {
        "picture": lambda: Image.new("RGB", (16, 16)).save(tmp_path / "in" / "1.png"),
        "gone": lambda: (tmp_path / "in" / "44.png").unlink(),
        "table": lambda: table.write_text(table.read_text("utf-8").replace("p0", "p1"), "utf-8"),
        "groups": lambda: write(groups, {"0.png": "b"}),
    }
    with pytest.raises(DataError, match="changed while it was read") as error:
        prepare(settings(str(table), groups=str(groups)), prepared, force=True, progress=During(actions[change]))
    assert "\n" not in str(error.value)
    assert PreparedSet.open(prepared).fingerprint == PreparedSet.open(made / "prepared").fingerprint
    assert check(prepared) == [] and not (tmp_path / "prepared.new").exists()


def test_groups_of_a_table_are_those_of_the_split(made: Path) -> None:
    source = str(made / "in" / "labels.csv")
    data = read_source(source, 16)
    decisions = decide(data, settings(source), Silent())
    assert data.groups is not None and (decisions.groups == data.groups).all()

"""Folders with the source's own split, tables of paths and labels, and names that are hard to write down."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import DataError
from data_prep.sources.registry import find_source, read_source

HARD_NAMES = ("a, b", 'say "x"', "细胞", "cell 1/2", "Ünïcode é")


def draw(*paths: Path) -> None:
    """Pictures, each of another colour."""
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10), (number * 9 % 256, 90, 30)).save(path)


def write(path: Path, *rows: tuple[str, ...], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "Dev"])
def test_folders_called_as_splits_are_the_sources_own_split(tmp_path: Path, validation: str) -> None:
    places = [f"train/{kind}/{number}.png" for kind in ("cat", "dog") for number in (1, 2)]
    places += [f"{validation}/cat/1.png", f"{validation}/dog/1.png", "test/cat/1.png"]
    draw(*(tmp_path / place for place in places))
    draw(tmp_path / "test" / "unlabelled.png")
    data = read_source(str(tmp_path), 8)
    assert data.class_names == ("cat", "dog")
    assert data.sides is not None and data.sides.dtype == np.int8
    sides = dict(zip(data.names, data.sides.tolist(), strict=True))
    assert sides == {place: ("train", validation, "test").index(place.split("/")[0]) for place in places}
    assert [bad.name for bad in data.unreadable] == ["test/unlabelled.png"]
    assert "no label" in data.unreadable[0].reason


def test_classes_may_be_called_train_and_test_and_one_side_is_no_split(tmp_path: Path) -> None:
    draw(tmp_path / "two" / "train" / "a.png", tmp_path / "two" / "test" / "b.png")
    data = read_source(str(tmp_path / "two"), 8)
    assert data.class_names == ("test", "train") and data.sides is None
    draw(tmp_path / "one" / "train" / "x" / "a.png", tmp_path / "one" / "train" / "y" / "b.png")
    data = read_source(str(tmp_path / "one"), 8)
    assert data.class_names == ("x", "y") and data.sides is None


@pytest.mark.parametrize("per_split", [False, True])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_table_beside_pictures_names_their_classes(tmp_path: Path, name: str, per_split: bool) -> None:
    places = ("train/0.png", "train/1.png", "test/0.png")
    draw(*(tmp_path / place for place in places))
    for folder in ("train", "test") if per_split else ("",):
        rows = [(place.removeprefix("train/").removeprefix("test/") if per_split else place, str(number))
                for number, place in enumerate(places) if place.startswith(folder)]  # fmt: skip
        if name.endswith("csv"):
            write(tmp_path / folder / name, ("file_name", "label"), *rows)
        else:
            lines = [json.dumps({"file_name": place, "label": int(label)}) for place, label in rows]
            (tmp_path / folder / name).write_text("\n".join(lines))
    data = read_source(str(tmp_path), 8)
    assert data.class_names == ("0", "1", "2")
    assert data.sides is not None
    found = {n: (label, side) for n, label, side in zip(data.names, data.labels, data.sides, strict=True)}
    assert found == {"train/0.png": (0, 0), "train/1.png": (1, 0), "test/0.png": (2, 2)}


def test_a_table_without_labels_leaves_the_folders_to_tell_the_class(tmp_path: Path) -> None:
    draw(tmp_path / "x" / "a.png", tmp_path / "y" / "b.png")
    write(tmp_path / "metadata.csv", ("file_name", "text"), ("x/a.png", "a caption"))
    assert read_source(str(tmp_path), 8).class_names == ("x", "y")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(("path", "label"), [("path", "label"), ("Image", "CLASS"), ("file_name", "category")])
def test_a_table_of_paths_and_labels(tmp_path: Path, path: str, label: str, delimiter: str) -> None:
    draw(tmp_path / "in" / "a.png", tmp_path / "b.png", tmp_path / "c.png")
    rows = [("in/a.png", HARD_NAMES[0]), ("./b.png", "z"), (str(tmp_path / "c.png"), "z"), ("gone.png", "z")]
    source = str(write(tmp_path / "labels.csv", (path, label), *rows, delimiter=delimiter))
    data = read_source(source, 8)
    assert data.names == ("in/a.png", "b.png", str(tmp_path / "c.png"))
    assert data.class_names == (HARD_NAMES[0], "z") and data.labels.tolist() == [0, 1, 1]
    assert [(bad.name, bad.reason) for bad in data.unreadable] == [("gone.png", "no such file")]
    assert data.sides is None and data.groups is None


def test_a_table_brings_splits_and_groups(tmp_path: Path) -> None:
    draw(*(tmp_path / f"{number}.png" for number in range(4)))
    header = ("path", "label", "split", "group")
    rows = [
        ("0.png", "10", "train", "p"),
        ("1.png", "9", "Val", ""),
        ("2.png", "9", "test", "p"),
        ("3.png", "9", "test", ""),
    ]
    data = read_source(str(write(tmp_path / "labels.tsv", header, *rows, delimiter="\t")), 8)
    assert data.class_names == ("9", "10") and data.labels.tolist() == [1, 0, 0, 0]
    assert data.sides is not None and data.sides.tolist() == [0, 1, 2, 2]
    assert data.groups is not None and data.groups.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("column", ["patient_id", "Slide"])
def test_a_column_of_patients_says_what_belongs_together(column: str, tmp_path: Path) -> None:
    draw(*(tmp_path / f"{number}.png" for number in range(3)))
    rows = [("0.png", "x", "p"), ("1.png", "y", "q"), ("2.png", "x", "p")]
    data = read_source(str(write(tmp_path / "labels.csv", ("path", "label", column), *rows)), 8)
    assert data.groups is not None and data.groups.tolist() == [0, 1, 0]


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    draw(*(tmp_path / str(number) / "a.png" for number in range(11)))
    data = read_source(str(tmp_path), 8, class_names=[f"class {number}" for number in range(11)])
    named = {name.split("/")[0]: data.class_names[label] for name, label in zip(data.names, data.labels, strict=True)}
    assert named == {str(number): f"class {number}" for number in range(11)}


def test_a_source_without_any_readable_picture_says_why(tmp_path: Path) -> None:
    table = write(tmp_path / "labels.csv", ("path", "label"), ("pictures\\a.png", "x"), ("pictures\\b.png", "y"))
    with pytest.raises(DataError, match=r"no readable images \(2 unreadable, the first is pictures\\a.png: .*\): give"):
        read_source(str(table), 8)


BAD_TABLES: list[tuple[str, str, str]] = [
    ("no label", "path,label\na.png,x\nb.png,\n", "line 3: the row has no label"),
    ("no path", "path,label\n,x\n", "line 2: the row has no path"),
    ("no column", "path,colour\na.png,x\n", r"must have a column label, .* or target, but has 'path', 'colour'"),
    ("empty", "", "but has none: name the columns"),
    ("twice", "path,label\na.png,x\n\n./a.png,y\n", "line 4: a.png is already in line 2"),
    ("split", "path,label,split\na.png,x,left\n", "line 2: split must be one of train, .*but is 'left'"),
    ("fields", "path,label\na.png,x,y\n", "line 2: the row has 3 fields, but the header only 2"),
    ("columns", "path,path\n", "must have different names"),
    ("case", "path,label\na.png,Cat\nb.png,cat\n", "the classes 'Cat' and 'cat', which differ only in case"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in BAD_TABLES], ids=[row[0] for row in BAD_TABLES])
def test_errors_of_a_table_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_source(str(tmp_path / "labels.csv"))
    assert "\n" not in str(error.value) and "labels.csv" in str(error.value)


def test_a_table_in_another_encoding_or_of_broken_json_is_refused(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16", "utf-16-le"):
        for name in ("a.csv", "a.jsonl"):
            (tmp_path / name).write_bytes("path,label\nä.png,x\n".encode(encoding))
            with pytest.raises(DataError, match=rf"{name} is not UTF-8 text.*: save it as UTF-8"):
                read_source(str(tmp_path / name))
    for text, message in (("{", "line 1: the row is not valid JSON"), ("[1]", "line 1: the row must be a JSON object")):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(DataError, match=message):
            read_source(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("a", "a ")])
def test_class_folders_that_differ_in_case_only_are_refused(tmp_path: Path, one: str, other: str) -> None:
    draw(tmp_path / one / "a.png", tmp_path / other / "b.png")
    with pytest.raises(DataError, match="differ only in case, spaces or the encoding of accents"):
        read_source(str(tmp_path))


def test_files_that_differ_in_case_are_two_and_hidden_ones_none(tmp_path: Path) -> None:
    draw(tmp_path / "x" / "a.png", tmp_path / "x" / "A.png", tmp_path / "x" / "a.PNG", tmp_path / "y" / "a.png")
    draw(tmp_path / "x" / ".a.png", tmp_path / ".z" / "a.png", tmp_path / "__MACOSX" / "a.png", tmp_path / "beside.jpg")
    (tmp_path / "readme.txt").write_text("about")
    data = read_source(str(tmp_path), 8)
    assert data.names == ("x/A.png", "x/a.PNG", "x/a.png", "y/a.png") and data.class_names == ("x", "y")
    assert [bad.name for bad in data.unreadable] == ["beside.jpg"]


def test_the_digest_follows_labels_splits_and_groups_and_passes_over_what_is_no_file(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "folder.png").mkdir()
    header, rows = ("path", "label", "split", "group"), [("a.png", "x", "train", "1"), ("b.png", "y", "test", "1")]
    found = set()
    for changes in ({}, {1: "z"}, {2: "val"}, {3: "2"}, {0: "folder.png"}, {0: "gone.png"}):
        changed = tuple(changes.get(place, value) for place, value in enumerate(rows[1]))
        source = str(write(tmp_path / "labels.csv", header, rows[0], changed))
        found.add(find_source(source).digest(source, 0))
    assert len(found) == 6

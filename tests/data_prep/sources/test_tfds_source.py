"""Sets of TensorFlow Datasets that lie on this machine, built here from a few pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sources import TFDS_NAME, build_tfds, tfds_builder

from data_prep.errors import DataError
from data_prep.fingerprint import identify
from data_prep.settings import PrepareSettings
from data_prep.sources.registry import fetch_source, find_source, read_source

SOURCE = f"tfds:{TFDS_NAME}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    build_tfds(folder)
    return folder


def test_pictures_are_fitted_and_the_sets_split_is_kept(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(built))
    data = read_source(SOURCE, 20)
    assert data.images.shape == (36, 20, 20, 3) and data.class_names == ("round", "long")
    assert data.sides is not None and data.sides.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert data.names[0] == "train/0" and data.names[35] == "test/11"
    pictures = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 36, 3), dtype=np.uint8)
    central = {pictures[2, row, :, (4 + row) // 2 : (4 + row) // 2 + 20].tobytes() for row in (0, 4, 8)}
    assert sum(image.tobytes() in central for image in data.images[24:]) == 3  # cut, not shrunk: they are 20 high
    assert identify(PrepareSettings(SOURCE))["settings"]["split"] == "own"


def test_a_split_is_kept_also_where_one_side_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tfds(tmp_path, ("train", "test"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = read_source(SOURCE, 16)
    assert (
        data.sides is not None
        and data.sides.tolist() == sorted(data.sides.tolist())
        and set(data.sides.tolist()) == {0, 2}
        and len(data.labels) == 24
        and len(set(data.names)) == 24
    )
    assert identify(PrepareSettings(SOURCE))["settings"]["split"] == "own"


def test_the_digest_follows_the_records(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(built))
    digest = find_source(SOURCE).digest
    first = digest(SOURCE, 0)
    build_tfds(tmp_path, ("train", "validation"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert digest(SOURCE, 0) != first


def test_damaged_records_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tfds(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    record = next(tmp_path.glob(f"{TFDS_NAME}/1.0.0/*-test.tfrecord*"))
    record.write_bytes(record.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"test cannot be read .*: remove .* to build it again") as error:
        read_source(SOURCE, 16)
    assert "\n" not in str(error.value)


class Told:
    """Remembers the titles of stages."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def start(self, title: str, total: int, unit: str = "images") -> None:
        self.titles.append(title)

    def advance(self, count: int) -> None:
        """Not looked at."""


def test_a_set_that_is_not_there_is_built_once_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tfds_builder("hpsearch_tiny_known", ("train", "test"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    told = Told()
    for _ in range(2):
        fetch_source("tfds:hpsearch_tiny_known", told)
    assert told.titles == ["downloading and building tfds:hpsearch_tiny_known"]
    assert len(read_source("tfds:hpsearch_tiny_known", 16, progress=told).labels) == 24
    assert told.titles[1:] == ["reading pictures"]


@pytest.mark.parametrize(
    ("name", "trouble", "message"),
    [
        (
            "hpsearch_tiny_away",
            ConnectionError("no route\nto host"),
            r"built \(no route\): build .*_away/1\.0\.0",
        ),
        ("hpsearch_tiny_needy", ImportError("no", name="pydub"), "needs the package pydub, which is not installed"),
    ],
)
def test_a_set_that_cannot_be_built_is_one_line(
    name: str, trouble: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, manager: Any) -> None:
        raise trouble

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds_builder(name, ()), "_split_generators", fail)
    with pytest.raises(DataError, match=message) as error:
        fetch_source(f"tfds:{name}", Told())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tfds:", "must be tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:VERSION"),
        ("tfds:someone:cells", "must be tfds:NAME"),
        ("tfds:no_such_set_at_all", r"cannot be opened \(.*not found.*\): names are listed at"),
        ("tfds:wordnet", "must have an `image` and a class `label`, but has "),
        ("tfds:mnist", r"tfds:mnist is not in .* yet: `hpsearch prepare tfds:mnist` builds it there"),
    ],
)
def test_what_cannot_be_read_says_why_and_nothing_is_fetched(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=message) as error:
        find_source(source).digest(source, 0)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []

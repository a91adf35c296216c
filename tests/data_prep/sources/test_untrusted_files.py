"""Files from anywhere: whatever is in them ends in a result or in one clear line, never in a traceback or a hang."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.errors import DataError
from data_prep.sources.npz_source import read_images, read_npz
from data_prep.sources.picture_files import FORMATS, not_a_file, open_picture
from data_prep.sources.table_source import list_table
from data_prep.storage.reader import MANIFEST, PreparedSet
from models.backbones.registry import BACKBONES
from models.hyperparameters import names
from search.cli import COMMANDS
from search.errors import USER_ERRORS
from search.terminal.config_file import read_config
from studies.definition import read_definition

EXAMPLES = int(os.environ.get("HPSEARCH_EXAMPLES", "60"))  # benchmarks/soak.py asks for more
quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def result_or_one_line(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except USER_ERRORS as error:
        message = str(error)
    assert message and "\n" not in message, repr(message)
    return None


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """A sound file with some bytes changed, cut off or put in."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(("change", "cut", "insert", "zero"))):
            case "change":
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[at : at + draw(st.integers(1, 200))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=20))
            case "zero":
                length = min(draw(st.integers(1, 64)), len(content) - at)
                content[at : at + length] = bytes(length)
    return bytes(content)


def npz_bytes(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, images=np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3), labels=np.arange(3))
    return buffer.getvalue()


def picture_bytes(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def deep_bytes(suffix: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 65536, (24, 20, 3), dtype=np.uint16)
    return bytes(cv2.imencode(suffix, pixels)[1])


PICTURES = (
    *(picture_bytes(row.pillow) for row in FORMATS),
    *(picture_bytes("TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
    *(deep_bytes(suffix) for suffix in (".png", ".tif")),
)


@quick
@given(content=st.sampled_from([npz_bytes(False), npz_bytes(True)]).flatmap(damaged) | st.binary(max_size=300))
def test_an_npz_file_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(content)
        result_or_one_line(lambda: read_npz(path))
        result_or_one_line(lambda: read_images(path))


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=5)))
    kind = draw(st.sampled_from(["u1", "i8", "f4", "?", "U3", "c8", "M8[s]", "u2"]))
    return np.zeros(shape, kind)


@quick
@given(content=st.dictionaries(st.sampled_from(["images", "labels", "x", "../labels"]), arrays(), max_size=4))
def test_arrays_of_any_shape_and_kind_are_read_or_refused(content: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        np.savez(path, **content)  # type: ignore[arg-type]
        result_or_one_line(lambda: read_npz(path))


@quick
@given(content=st.sampled_from(PICTURES).flatmap(damaged) | st.binary(max_size=300))
def test_a_picture_is_read_or_its_reason_given(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        path.write_bytes(content)
        found = open_picture(path)
        assert isinstance(found, Image.Image) or (found and "\n" not in found)


TABLES = (
    b'path,label,split,group\na.png,x,train,1\nb.png,"y, z",test,2\n',
    "\ufeffFile_Name;Class\r\na.png;\u00e4\r\n../b.png;b\r\n".encode(),
    b'{"file_name": "a.png", "label": 3}\n{"file_name": "b.png", "label": "\\ud800"}\n',
)


@quick
@given(
    content=st.sampled_from(TABLES).flatmap(damaged) | st.binary(max_size=100),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]),
)
def test_a_table_of_labels_is_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content)
        listing = result_or_one_line(lambda: list_table(path))
        for entry in listing.entries if listing else ():
            assert entry.label in listing.class_names and not_a_file(entry.path)
            json.dumps([entry.name, entry.label, entry.group]).encode()
            "".join((entry.name, entry.label, entry.group)).encode()


SPACES = (
    "[space.dropout]\nlow = 0.0\nhigh = 0.5\n",
    '[space.optimizer]\nchoices = ["adamw", "sgd"]\n[space.momentum]\nvalue = 0.9\nwhen = { optimizer = ["sgd"] }\n',
    "[space.dropout]\nvalue = 0.1\n[[first]]\ndropout = 0.1\n[backbone.vgg19.space.dropout]\nvalue = 0.2\n",
)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8)
nested = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@quick
@given(content=st.sampled_from([text.encode() for text in SPACES]).flatmap(damaged) | st.binary(max_size=100))
def test_a_search_space_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.toml"
        path.write_bytes(content)
        rows = [row.name for row in BACKBONES]
        result_or_one_line(lambda: read_definition(str(path), "vgg19", names(), rows))


@quick
@given(
    content=st.just(b'workspace = "cells"\n[run]\ntrials = 50\n[prepare]\nsource = "demo"\n').flatmap(damaged)
    | st.binary(max_size=100)
)
def test_a_config_file_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hpsearch.toml"
        path.write_bytes(content)
        result_or_one_line(lambda: read_config(path, COMMANDS))


def read_all(folder: Path) -> None:
    prepared = PreparedSet.open(folder)
    assert prepared.levels is not None and prepared.fingerprint and prepared.class_weights
    for split in ("train", "validation", "test"):
        prepared.images(split)
        prepared.labels(split)
    for level in prepared.levels:
        prepared.bank(level)
    prepared.corrupted("validation")


@quick
@given(data=st.data())
def test_a_manifest_is_read_or_refused(data: st.DataObject, tiny_workspace: Path) -> None:
    """Bytes that changed, and values of another kind in any place."""
    sound = (tiny_workspace / "prepared" / MANIFEST).read_bytes()
    if data.draw(st.booleans()):
        content = data.draw(damaged(sound))
    else:
        manifest = json.loads(sound)
        place, key = manifest, data.draw(st.sampled_from(sorted(manifest)))
        while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place, key = place[key], data.draw(st.sampled_from(sorted(place[key])))
        place[key] = data.draw(nested)
        content = json.dumps(manifest).encode()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(tiny_workspace / "prepared", folder, dirs_exist_ok=True)
        (Path(folder) / MANIFEST).write_bytes(content)
        result_or_one_line(lambda: read_all(Path(folder)))


def test_a_file_that_unpacks_to_more_than_the_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((2000, 64, 64, 3), np.uint8), labels=np.zeros(2000, int))
    assert path.stat().st_size < 100_000
    little = psutil.virtual_memory()._replace(available=10_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(DataError, match=r"images take 0\.0 GB unpacked, more than 60% of the 0\.0 GB of free memory"):
        read_npz(path)


def test_a_header_that_claims_more_than_there_is_is_named(tmp_path: Path) -> None:
    path = tmp_path / "liar.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 96, 96, 3)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100))
        labels = io.BytesIO()
        np.lib.format.write_array_header_1_0(labels, {"descr": "<i8", "fortran_order": False, "shape": (10**9,)})
        archive.writestr("labels.npy", labels.getvalue())
    with pytest.raises(DataError, match="the file is damaged"):
        read_npz(path)


def test_a_picture_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert open_picture(path) == "more than 100,000,000 pixels"


def test_a_manifest_that_names_files_outside_is_refused(tiny_workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_workspace / "prepared", tmp_path, dirs_exist_ok=True)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["files"]["../../secret"] = "0" * 64
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"the file \.\./\.\./secret would lie outside the set's folder"):
        PreparedSet.open(tmp_path)


def test_the_spaces_above_are_sound() -> None:
    for text in SPACES:
        assert tomllib.loads(text)

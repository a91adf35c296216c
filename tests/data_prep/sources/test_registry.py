"""Reading labelled images: what goes in, and what is said about what does not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from tiny_sources import TFDS_NAME, build_tfds, publish_medmnist

from data_prep.errors import DataError
from data_prep.settings import PrepareSettings
from data_prep.sources import demo_set, medmnist, npz_source
from data_prep.sources.kinds import KINDS, MEDMNIST_SETS, PICTURES
from data_prep.sources.picture_files import FORMAT_NAMES
from data_prep.sources.registry import SOURCES, Source, find_source, read_source, require_classes
from data_prep.storage import spilled_arrays

IMAGES = np.zeros((6, 16, 12, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_npz_gives_images_labels_and_numbers_for_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES + 7, labels=LABELS.astype(np.uint8)[:, None])
    data = read_source(str(tmp_path / "a.npz"))
    assert (data.images == 7).all() and data.images.shape == (6, 16, 12, 3)
    assert data.labels.tolist() == LABELS.tolist() and data.labels.dtype == np.int64
    assert data.class_names == ("0", "1", "2")
    assert data.names == tuple("012345")


def test_pictures_that_neither_disk_nor_memory_has_room_for_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = psutil.virtual_memory()._replace(available=100)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(DataError, match=r"the pictures take 0\.0 GB unpacked, .* or set TMPDIR to"):
        read_source(str(folder), 8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_large_source_lies_in_a_file_that_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, save: Callable[..., None]
) -> None:
    images = np.arange(6 * 16 * 12 * 3, dtype=np.uint8).reshape(IMAGES.shape)
    save(tmp_path / "a.npz", images=images, labels=LABELS)
    save(tmp_path / "fortran.npz", images=np.asfortranarray(images), labels=LABELS)
    small = read_source(str(folder), 8).images
    monkeypatch.setattr(spilled_arrays, "IN_MEMORY", 100)
    monkeypatch.setattr(npz_source, "_CHUNK", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    data = read_source(str(tmp_path / "a.npz"))
    assert isinstance(data.images, np.memmap) and (data.images == images).all()
    assert (read_source(str(tmp_path / "fortran.npz")).images == images).all()
    spilled = read_source(str(folder), 8).images
    assert isinstance(spilled, np.memmap) and (spilled == small).all()
    assert sorted(tmp_path.iterdir()) == before
    _cut(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz"):
        read_source(str(tmp_path / "a.npz"))


def test_where_the_disk_is_full_a_large_source_lies_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    monkeypatch.setattr(spilled_arrays, "IN_MEMORY", 100)
    full = shutil.disk_usage(tmp_path)._replace(free=IMAGES.nbytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: full)
    assert not isinstance(read_source(str(tmp_path / "a.npz")).images, np.memmap)


BAD_ARRAYS: list[tuple[str, dict[str, Any], str]] = [
    ("no labels", {"images": IMAGES}, "labels is missing; its keys: images"),
    ("other keys", {"x": IMAGES, "y": LABELS}, "its keys: x, y"),
    ("channels first", {"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, r"but have \(6, 3, 16, 12\)"),
    ("float labels", {"images": IMAGES, "labels": LABELS / 1}, "labels must be integers or names, but are float64"),
    ("cubes", {"images": IMAGES, "labels": np.zeros((6, 3, 1), int)}, r"one-hot \(n, classes\), but have \(6, 3, 1\)"),
    ("fewer labels", {"images": IMAGES, "labels": LABELS[:5]}, "must have the same length, but have 6 and 5"),
    ("none", {"images": IMAGES[:0], "labels": LABELS[:0]}, "has no images"),
    ("negative", {"images": IMAGES, "labels": LABELS - 1}, "must be 0 or more, but row 0 has -1"),
    ("beyond", {"images": IMAGES, "labels": LABELS * 9000}, "labels must be below 10000, but row 2 has 18000"),
    ("pickled", {"images": IMAGES, "labels": np.array([{}] * 6, object)}, "pickled objects, which are never loaded"),
]


@pytest.mark.parametrize(("arrays", "message"), [row[1:] for row in BAD_ARRAYS], ids=[row[0] for row in BAD_ARRAYS])
def test_npz_errors_are_one_line_that_says_what_is_wrong(tmp_path: Path, arrays: Any, message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        read_source(str(tmp_path / "a.npz"))
    assert "\n" not in str(error.value) and "a.npz" in str(error.value)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[600:700] = bytes(255 - byte for byte in content[600:700])
    path.write_bytes(content)


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (_cut, "is not an .npz file"),
    (_flip, "damaged"),
    (lambda path: path.write_bytes(b""), "is not an .npz file"),
    (lambda path: path.write_text("a,b\n1,2"), "is not an .npz file"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN, ids=["cut", "flipped", "empty", "text"])
def test_broken_files_are_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    damage(path)
    with pytest.raises(DataError, match=message):
        read_source(str(path))


def test_a_missing_source_is_answered_with_the_kinds_there_are() -> None:
    with pytest.raises(DataError, match=r"no file or folder 'nowhere'.*demo.*folder.*npz"):
        find_source("nowhere")


def test_one_class_or_an_absent_class_cannot_be_learnt(tmp_path: Path) -> None:
    for labels, message in ((LABELS * 0, "one class only"), (LABELS * 2, "no readable image of 1, 3")):
        np.savez(tmp_path / "a.npz", images=IMAGES, labels=labels)
        with pytest.raises(DataError, match=message):
            require_classes(read_source(str(tmp_path / "a.npz")), "a.npz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; a wide picture with a red middle, and several that cannot be read."""
    for name in ("b <script>", "a"):
        (tmp_path / name).mkdir()
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60, 0] = 255
    Image.fromarray(wide).save(tmp_path / "a" / "wide.png")
    Image.fromarray(wide).convert("L").save(tmp_path / "a" / "grey.jpg")
    Image.fromarray(wide).convert("P").save(tmp_path / "b <script>" / "palette.png", transparency=0)
    Image.fromarray(wide).save(tmp_path / "a" / "palette.gif")
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "a" / "float.tif")
    frames = [Image.fromarray(wide), Image.fromarray(255 - wide)]
    frames[0].save(tmp_path / "a" / "moving.png", save_all=True, append_images=frames[1:])
    content = (tmp_path / "a" / "wide.png").read_bytes()
    (tmp_path / "a" / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "a" / "empty.jpg").touch()
    (tmp_path / "a" / ".hidden").touch()
    return tmp_path


def test_pictures_are_cropped_to_the_middle_and_bad_ones_are_listed(folder: Path) -> None:
    data = read_source(str(folder), image_size=16)
    assert data.class_names == ("a", "b <script>")
    assert data.names == ("a/grey.jpg", "a/wide.png", "b <script>/palette.png")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.images.shape == (3, 16, 16, 3)
    assert (np.abs(data.images[1].astype(int) - (255, 0, 0)) < 20).all()
    reasons = {bad.name.removeprefix("a/"): bad.reason for bad in data.unreadable}
    assert reasons.keys() == {"palette.gif", "cut.png", "float.tif", "empty.jpg", "moving.png"}
    assert reasons["palette.gif"] == "not a JPEG, PNG, BMP, TIFF or WebP picture"
    assert reasons["cut.png"].startswith("damaged")
    assert reasons["float.tif"].startswith("neither 8 nor 16 bits per channel")
    assert reasons["empty.jpg"] == "empty file"
    assert reasons["moving.png"] == "animated"


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no subfolders"):
        read_source(str(tmp_path))


def test_the_digest_of_a_folder_follows_content_and_names(folder: Path) -> None:
    digest = find_source(str(folder)).digest
    before = digest(str(folder), 0)
    (folder / "a" / "grey.jpg").rename(folder / "a" / "gray.jpg")
    assert digest(str(folder), 0) != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": (80, 20)}, "sum 100, such as 70/15/15, but is 80/20"),
        ({"split": (85, 15, 0)}, "above 0"),
        ({"levels": ("low", "extreme")}, "one or more of low, medium, hard, strong, .* are low, extreme"),
        ({"levels": ("strong*2", "strong")}, "each at most once, but are strong\\*2, strong"),
        ({"levels": ("strong*0",)}, "copies of a level must be 1 to 100, as in strong\\*4, but levels are strong\\*0"),
        ({"levels": ("strong*",)}, "copies of a level must be 1 to 100"),
        ({"corrupted_views": 11}, "corrupted views must be 0 to 10, but are 11"),
        ({"levels": ("low", "low")}, "must be none, or one or more of low, .*, each at most once, but are low, low"),
        ({"copies": 0}, "copies must be 1"),
        ({"limit": 0}, "limit must be 1 or more, but is 0"),
        ({"image_size": 4}, "8 to 1024 pixels, but is 4"),
        ({"recurrence_limit": 0}, "recurrence limit"),
        ({"seed": -1}, "seed must be 0"),
        ({"value_range": "0..2"}, r"one of 0\.\.1, 0\.\.255, but is 0\.\.2"),
        ({"class_names": ("a", "b", "a")}, "different and not empty, but are a, b, a"),
        ({"class_names": ("a", "")}, "different and not empty"),
    ],
)
def test_settings_state_their_rules(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        PrepareSettings("demo", **options)


def _demo_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(demo_set, "KINDS", tuple(replace(kind, count=40) for kind in demo_set.KINDS))
    return "demo"


def _folder_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("a", "b"):
        (folder / "pictures" / name).mkdir(parents=True)
        Image.fromarray(IMAGES[0] + ord(name)).save(folder / "pictures" / name / "one.png")
    return str(folder / "pictures")


def _npz_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    np.savez(folder / "a.npz", images=IMAGES, labels=LABELS)
    return str(folder / "a.npz")


def _medmnist_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    publish_medmnist(folder, monkeypatch)
    monkeypatch.setenv("HPSEARCH_DATA", str(folder))
    return "bloodmnist"


def _tfds_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    build_tfds(folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return f"tfds:{TFDS_NAME}"


def _table_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pictures = Path(_folder_example(folder, monkeypatch))
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(pictures.rglob("*.png"))]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return str(folder / "labels.csv")


EXAMPLES: dict[str, Callable[[Path, pytest.MonkeyPatch], str]] = {
    "demo": _demo_example,
    "medmnist": _medmnist_example,
    "tfds": _tfds_example,
    "folder": _folder_example,
    "table": _table_example,
    "npz": _npz_example,
}


def test_the_words_on_sources_name_all_picture_formats_and_public_sets() -> None:
    assert list(KINDS) == [row.kind for row in SOURCES]
    assert FORMAT_NAMES == PICTURES and ", ".join(medmnist.SETS) == MEDMNIST_SETS


@pytest.mark.parametrize("row", SOURCES, ids=lambda row: row.kind)
def test_every_kind_of_source_is_known_and_read_and_told_apart(
    row: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = EXAMPLES[row.kind](tmp_path, monkeypatch)
    assert row.describe and find_source(source) is row
    digest = row.digest(source, 0)
    assert len(digest) == 64 and digest == row.digest(source, 0)
    data = read_source(source, 16)
    images, count = data.images, len(data.labels)
    assert images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 and len(images) == count > 0
    assert images.shape[1:3] == (16, 16) or not row.resized
    assert data.labels.dtype == np.int64 and set(data.labels) == set(range(len(data.class_names)))
    assert len(set(data.names)) == count and all(data.class_names)
    assert (data.sides is not None) == row.brings_split(source)
    assert data.sides is None or (data.sides.dtype == np.int8 and set(data.sides) == {0, 1, 2})
    assert row.digest(source, 0) == digest


def test_an_option_of_another_kind_of_source_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match="--size is for sources of kind medmnist, not npz: leave it out"):
        read_source(str(tmp_path / "a.npz"), size=64)
    with pytest.raises(DataError, match="--value-range is for sources of kind npz, not demo: leave it out"):
        read_source("demo", value_range="0..1")


def test_numbered_classes_may_be_given_names(tmp_path: Path, folder: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    assert read_source(str(tmp_path / "a.npz"), class_names=("x", "y", "z")).class_names == ("x", "y", "z")
    with pytest.raises(DataError, match=r"one for each of the 3 classes of .*a\.npz, but are 2"):
        read_source(str(tmp_path / "a.npz"), class_names=("x", "y"))
    with pytest.raises(
        DataError, match=r"for sources that number their classes, but .* has a, b <script>: drop --class-names"
    ):
        read_source(str(folder), 16, class_names=("x", "y"))

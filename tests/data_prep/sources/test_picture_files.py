"""Pictures of every format of the table, at every depth and orientation; and what is said of those not read."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep.sources import picture_files
from data_prep.sources.picture_files import FORMATS, SUFFIXES, PictureFormat, open_picture, read_pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
DEEP = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
EXACT = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}


def colours(path: Path) -> np.ndarray:
    found = open_picture(path)
    assert isinstance(found, Image.Image), found
    return np.asarray(found)


def turned_right() -> Image.Exif:
    """What a camera writes that was held upright: the picture is to be turned by 90 degrees."""
    exif = Image.Exif()
    exif[274] = 6
    return exif


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_format_gives_the_colours_that_were_written(row: PictureFormat, tmp_path: Path) -> None:
    assert row.suffixes and set(row.suffixes) <= SUFFIXES and all(suffix.islower() for suffix in row.suffixes)
    picture, grey = Image.fromarray(PIXELS), Image.fromarray(PIXELS[..., 0])
    for suffix in row.suffixes:
        picture.save(tmp_path / f"a{suffix}", row.pillow, **EXACT.get(row.pillow, {}))
    grey.save(tmp_path / "grey", row.pillow, **EXACT.get(row.pillow, {}))
    tolerance = 5 if row.name == "JPEG" else 0
    for suffix in row.suffixes:
        assert np.abs(colours(tmp_path / f"a{suffix}").astype(int) - PIXELS).max() <= tolerance
    assert np.abs(colours(tmp_path / "grey").astype(int) - PIXELS[..., :1]).max() <= tolerance
    content = (tmp_path / f"a{row.suffixes[0]}").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    assert str(open_picture(tmp_path / "cut")).startswith("damaged")


@pytest.mark.parametrize("row", [row for row in FORMATS if row.name != "BMP"], ids=lambda row: row.name)
@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., 0], DEEP[..., 0]], ids=["colour", "grey", "16 bits"])
def test_the_orientation_of_the_camera_is_applied(row: PictureFormat, pixels: np.ndarray, tmp_path: Path) -> None:
    if pixels.dtype == np.uint16 and row.name not in ("PNG", "TIFF"):
        pytest.skip(f"{row.name} has 8 bits")
    Image.fromarray(pixels).save(tmp_path / "a", row.pillow, exif=turned_right(), **EXACT.get(row.pillow, {}))
    upright = np.rot90(np.round(pixels / 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels, -1)
    found = colours(tmp_path / "a").astype(int)
    assert np.abs(found - (upright if pixels.ndim == 3 else upright[..., None])).max() <= (
        5 if row.name == "JPEG" else 0
    )


TIFF_KINDS = {"raw": 1, "lzw": 5, "deflate": 8}


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", []), *((f"{kind}.tif", [cv2.IMWRITE_TIFF_COMPRESSION, code]) for kind, code in TIFF_KINDS.items())],
)
def test_sixteen_bits_are_divided_by_257(name: str, options: list[int], tmp_path: Path) -> None:
    path = str(tmp_path / name)
    for pixels in (DEEP, DEEP[..., 0], np.dstack([DEEP, DEEP[..., :1]])):
        cv2.imwrite(path, pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]] if pixels.ndim == 3 else pixels, options)
        want = np.round((pixels[..., :3] if pixels.ndim == 3 else pixels[..., None]) / 257)
        assert (colours(Path(path)) == want).all()


def test_sixteen_bits_that_hold_twelve_are_scaled_as_such(tmp_path: Path) -> None:
    for pixels in (DEEP // 16, DEEP[..., 0] // 16):
        cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        found = colours(tmp_path / "a.png")
        assert (found == np.round((pixels if pixels.ndim == 3 else pixels[..., None]) * (255 / 4095))).all()
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((20, 20), np.uint16))
    assert (colours(tmp_path / "black.png") == 0).all()
    cv2.imwrite(str(tmp_path / "above.png"), np.full((20, 20), 4112, np.uint16))
    assert (colours(tmp_path / "above.png") == 16).all()


def test_transparency_is_dropped_and_the_colours_beneath_show(tmp_path: Path) -> None:
    clear = np.dstack([PIXELS, np.zeros((20, 30), np.uint8)])
    for suffix in ("png", "webp", "tif"):
        Image.fromarray(clear).save(
            tmp_path / f"a.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {})
        )
        assert (colours(tmp_path / f"a.{suffix}") == PIXELS).all()
    palette = Image.fromarray(PIXELS).convert("P")
    palette.save(tmp_path / "p.png", transparency=int(np.asarray(palette)[0, 0]))
    assert (colours(tmp_path / "p.png") == np.asarray(palette.convert("RGB"))).all()


def _link(path: Path) -> None:
    path.symlink_to("nowhere.png")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _frames(path: Path, kind: str) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])


def _deep_grey_with_alpha(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = DEEP[..., :2].astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, 4, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def _deep_planes(path: Path) -> None:
    """A TIFF of 16 bits whose channels lie one after the other."""
    planes = [np.ascontiguousarray(DEEP[..., place], "<u2").tobytes() for place in range(3)]
    height, width = DEEP.shape[:2]
    short, long = 3, 4
    tags = [
        *((256, long, (width,)), (257, long, (height,)), (258, short, (16, 16, 16)), (259, short, (1,))),
        *((262, short, (2,)), (273, long, (0, 0, 0)), (277, short, (3,)), (278, long, (height,))),
        *((279, long, tuple(map(len, planes))), (284, short, (2,))),
    ]
    entries, extra, start = b"", b"", 8 + 2 + 12 * len(tags) + 4
    pixels = start + sum(struct.calcsize(f"<{len(v)}{'H' if k == short else 'I'}") for _, k, v in tags if len(v) > 1)
    offsets = tuple(pixels + place * len(planes[0]) for place in range(3))
    for tag, kind, values in tags:
        packed = struct.pack(f"<{len(values)}{'H' if kind == short else 'I'}", *(offsets if tag == 273 else values))
        inline = packed if len(packed) <= 4 else struct.pack("<I", start + len(extra))
        extra += packed if len(packed) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, len(values)) + inline.ljust(4, b"\0")
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + extra + b"".join(planes))


NO_PICTURES: list[tuple[str, Any, str]] = [
    ("empty", lambda path: path.touch(), "empty file"),
    ("text", lambda path: path.write_text("hello"), "not a JPEG, PNG, BMP, TIFF or WebP picture"),
    ("folder", lambda path: path.mkdir(), "a folder, not a picture"),
    ("nothing", lambda path: None, "no such file"),
    ("link to nothing", _link, "a link to what is not there (nowhere.png)"),
    ("link to itself", _loop, "a link to what is not there"),
    ("pipe", lambda path: os.mkfifo(path), "neither a file nor a folder"),
    ("animated PNG", lambda path: _frames(path, "PNG"), "animated"),
    ("animated WebP", lambda path: _frames(path, "WEBP"), "animated"),
    ("pages", lambda path: _frames(path, "TIFF"), "several pages"),
    ("GIF", lambda path: Image.fromarray(PIXELS).save(path, "GIF"), "not a JPEG, PNG"),
    (
        "floats",
        lambda path: Image.fromarray(PIXELS[..., 0] / np.float32(9)).save(path, "TIFF"),
        "neither 8 nor 16 bits",
    ),
    ("16 bits, grey with alpha", _deep_grey_with_alpha, "16 bits per channel in an unusual layout"),
    ("16 bits, channel after channel", _deep_planes, "16 bits per channel in an unusual layout"),
    (
        "Lab",
        lambda path: Image.fromarray(PIXELS, "RGB").convert("LAB").save(path, "TIFF"),
        "unknown colours (mode LAB)",
    ),
]


@pytest.mark.parametrize(("make", "reason"), [row[1:] for row in NO_PICTURES], ids=[row[0] for row in NO_PICTURES])
def test_what_is_no_picture_has_its_reason(make: Any, reason: str, tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    assert str(open_picture(tmp_path / "a.png")).startswith(reason) or reason in str(open_picture(tmp_path / "a.png"))


def test_a_camera_s_picture_with_further_views_behind_it_is_read(tmp_path: Path) -> None:
    views = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    views[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=views[1:])
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.format == "MPO"
    assert np.abs(colours(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() < 5


def test_a_link_to_a_picture_is_that_picture(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert (colours(tmp_path / "b.png") == PIXELS).all()


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "LARGE_PIXELS", 100)
    most, inside, counting = 0, 0, threading.Lock()
    real = picture_files._upright

    def counted(picture: Image.Image) -> Image.Image:
        nonlocal most, inside
        with counting:
            inside += 1
            most = max(most, inside)
        upright = real(picture)
        with counting:
            inside -= 1
        return upright

    monkeypatch.setattr(picture_files, "_upright", counted)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert len(list(read_pictures([tmp_path / "a.png"] * 40, 8))) == 40
    assert most == 1


def test_pictures_are_read_in_order_and_little_ahead(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    given = 0

    def paths() -> Iterator[Path]:
        nonlocal given
        for given in range(1, 301):
            yield tmp_path / f"{given % 3}.png"

    read = read_pictures(paths(), 8)
    first = [picture[0, 0, 0] for picture in (next(read) for _ in range(5)) if not isinstance(picture, str)]
    assert first == [1, 2, 0, 1, 2] and given < 100
    assert len(list(read)) == 295

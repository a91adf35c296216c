"""report.html: complete, on its own, and harmless whatever the names are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_images import tiny_images

from data_prep.corruption.operations import CORRUPTIONS
from data_prep.prepare import prepare
from data_prep.settings import PrepareSettings

EVIL = "<script>alert(1)<"
DOLLAR = "a$b$_{"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepareSettings:
    """Two classes with evil names, a copy, and an unreadable picture with an evil name; views are negatives."""

    def negatives(images: np.ndarray, views: dict[str, np.ndarray], *_: Any) -> None:
        for array in views.values():
            array[:] = 255 - images[:, None]

    monkeypatch.setattr("data_prep.augmentation.levels.augment", negatives)
    images, _ = tiny_images(12)
    for index, image in enumerate([*images, images[0]]):
        place = tmp_path / "source" / (EVIL, DOLLAR)[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{index}.png")
    (tmp_path / "source" / DOLLAR / '"><img src=x onerror=1>.png').touch()
    return PrepareSettings(str(tmp_path / "source"), image_size=32)


@pytest.fixture
def page(settings: PrepareSettings, tmp_path: Path) -> str:
    prepare(settings, tmp_path / "set")
    return (tmp_path / "set" / "report.html").read_text()


def test_names_are_escaped(page: str) -> None:
    assert "<script" not in page and "onerror=1>" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page and DOLLAR in page


def test_the_page_needs_nothing_beside_it(page: str) -> None:
    assert set(re.findall(r'(?:src|href)="(.{10})', page)) == {"data:image"}


def test_what_was_left_out_is_shown_with_reason_and_twin(page: str) -> None:
    assert "Copy: 1" in page and "(kept)" in page and "pHash distance 0" in page
    assert "Unreadable: 1" in page and "empty file" in page
    for level in ("low", "medium", "hard"):
        assert f"<th>{level}</th>" in page


def test_each_corruption_is_shown_at_its_strengths_with_what_uses_it(page: str) -> None:
    validation, test = page.index("Used on validation"), page.index("Used on test images only")
    for row in CORRUPTIONS:
        place = page.index(f"<td>{row.family}</td><td>{row.name}</td>")
        assert page[place : page.index("</tr>", place)].count("<img") == 3 * 2
        assert (validation < place < test) if row.used_by == "validation" else (test < place)


def test_without_corrupted_views_there_is_no_such_section(settings: PrepareSettings, tmp_path: Path) -> None:
    prepare(replace(settings, corrupted_views=0), tmp_path / "set")
    assert "Corruptions" not in (tmp_path / "set" / "report.html").read_text()

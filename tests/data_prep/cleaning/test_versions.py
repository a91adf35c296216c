"""Versions of one picture are found, other pictures are not joined, and what follows from both."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_prep.cleaning import copies, hashing, near_copies, recheck
from data_prep.cleaning.near_copies import Pictures
from data_prep.cleaning.representatives import grouped
from data_prep.cleaning.version_names import named_versions
from data_prep.errors import DataError
from data_prep.prepare import Decisions, decide
from data_prep.progress import Silent
from data_prep.settings import PrepareSettings
from data_prep.sources.labelled_images import LabelledImages

SIDE, COUNT = 96, 12


def scene(seed: int) -> np.ndarray:
    """A picture unlike all others: smooth random ground, and shapes on it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 216, (5, 5, 3)).astype(np.uint8)
    ground = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(ground)
    for _ in range(7):
        x, y, reach = (int(v) for v in rng.integers((16, 16, 5), (80, 80, 18)))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - reach, y - reach, x + reach, y + reach), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    return np.clip(np.asarray(ground) + rng.normal(0, 3, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def moved(image: np.ndarray, degrees: float = 0, shift: float = 0, shear: float = 0) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), degrees, 1)
    matrix[0] += shear * np.array([0, 1, -SIDE / 2])
    matrix[:, 2] += shift * SIDE
    return np.asarray(cv2.warpAffine(image, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE))


def cropped(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(image[5:-4, 3:-6], (SIDE, SIDE)))


def framed(image: np.ndarray) -> np.ndarray:
    return np.pad(cv2.resize(image, (SIDE - 10, SIDE - 10)), ((5, 5), (5, 5), (0, 0)))


def relit(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 0.7 + 10, 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relit": relit,
    "mirrored": lambda image: image[:, ::-1],
    "turned by 90": np.rot90,
    "turned by 8": lambda image: moved(image, 8),
    "shifted": lambda image: moved(image, shift=0.08),
    "cropped": cropped,
    "sheared": lambda image: moved(image, shear=0.1),
    "framed": framed,
    "all together": lambda image: relit(moved(image, -7, 0.06, 0.05)[::-1]),
}


def pairs_within(images: np.ndarray) -> set[tuple[int, int]]:
    pictures = Pictures(images, hashing.phashes(images), np.arange(len(images)))
    return {(link.first, link.second) for link in near_copies.within(pictures)}


@pytest.mark.parametrize("kind", KINDS)
def test_versions_are_found_and_nothing_else(kind: str) -> None:
    images = np.stack([scene(seed) for seed in range(COUNT)])
    both = np.concatenate([images, np.stack([KINDS[kind](image) for image in images])])
    found = pairs_within(both)
    assert found <= {(place, place + COUNT) for place in range(COUNT)} and len(found) >= COUNT - 1


@pytest.mark.parametrize("kind", ["mirrored", "shifted", "cropped"])
def test_check_finds_them_by_another_way(kind: str) -> None:
    images = np.stack([scene(seed) for seed in range(COUNT)])
    found = set(recheck.same_pictures(np.stack([KINDS[kind](image) for image in images[:4]]), images))
    assert found <= {(place, place) for place in range(4)} and len(found) >= 3


def test_flat_pictures_of_different_colours_are_different_pictures() -> None:
    colours = np.random.default_rng(0).integers(0, 255, (20, 1, 1, 3)).astype(np.uint8)
    assert not pairs_within(np.broadcast_to(colours, (20, 64, 64, 3)).copy())


def test_sparse_digits_are_not_joined_with_other_digits() -> None:
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    grey = [
        cv2.resize((one * 15).astype(np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC) for one in digits.images[:150]
    ]
    images = np.repeat(np.stack(grey)[..., None], 3, axis=3)
    found = pairs_within(images)
    assert len(found) < 8 and all(digits.target[i] == digits.target[j] for i, j in found)


def test_one_scene_in_many_lights_is_one_group() -> None:
    lights = np.stack([np.clip(scene(1) * (0.5 + step / 20), 0, 255).astype(np.uint8) for step in range(20)])
    pictures = Pictures(lights, hashing.phashes(lights), np.arange(20))
    groups = grouped(pictures, near_copies.within(pictures))
    assert len(groups.pairs) == 19 and not groups.cut


def decided(images: np.ndarray, labels: list[int], names: list[str] | None = None, **options: str) -> Decisions:
    names = names or [f"{place}.png" for place in range(len(images))]
    data = LabelledImages(images, np.array(labels), ("good", "bad"), tuple(names))
    return decide(data, PrepareSettings("tiny", **options), Silent())  # type: ignore[arg-type]


def marked(image: np.ndarray) -> np.ndarray:
    """A scratch of 2x2 pixels, 120 grey levels away."""
    again = image.astype(int)
    again[40:42, 50:52] += np.where(again[40:42, 50:52] > 127, -120, 120)
    return again.astype(np.uint8)


def test_a_scratch_makes_a_near_copy_of_which_both_are_kept() -> None:
    images = np.stack([scene(seed) for seed in range(COUNT)])
    both = np.concatenate([images, np.stack([marked(image) for image in images])])
    assert not copies.is_copy(both[0], both[COUNT])
    found = decided(both, [0] * COUNT + [1] * COUNT)
    assert not found.rejections and (found.groups[:COUNT] == found.groups[COUNT:]).all()
    assert len(found.doubts) == COUNT and all(doubt.one_spot for doubt in found.doubts)


def test_held_out_sides_keep_one_version_and_a_line_says_so() -> None:
    images = np.stack([scene(seed) for seed in range(2 * COUNT)])
    both = np.concatenate([images, images[:, :, ::-1]])
    found = decided(both, [0, 1] * 2 * COUNT)
    held = found.groups[found.sides > 0]
    assert len(held) == len(set(held.tolist())) > 0
    assert {one.reason for one in found.rejections} == {"further version"}
    assert any(f"{4 * COUNT} images look like versions of {2 * COUNT}" in line for line in found.warnings)


def test_near_copies_can_be_reported_alone_or_left_alone() -> None:
    images = np.stack([scene(seed) for seed in range(2 * COUNT)])
    both, labels = np.concatenate([images, images[:, :, ::-1]]), [0, 1] * 2 * COUNT
    report, off = (decided(both, labels, near_copies=way) for way in ("report", "off"))
    assert len(set(report.groups.tolist())) == len(set(off.groups.tolist())) == len(both)
    assert any("48 images have near copies" in line for line in report.warnings) and not off.warnings
    with pytest.raises(DataError, match="near copies must be one of join, report, off"):
        PrepareSettings("tiny", near_copies="perhaps")


NAMES = [
    ("a_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "a_jpg.rf.f123456789abcdef0123456789abcdef.jpg", "b.jpg"),
    ("a_original_x.png_0123abcd-1c2d-4e5f-8a9b-0123456789ab.png", "x.png", "y.png"),
    ("leaf 7_flipLR.JPG", "leaf 7_new30degFlipLR.JPG", "leaf 8.JPG"),
    ("leaf 7_90deg.JPG", "leaf 7.JPG", "leaf 9.JPG"),
    ("cell_aug_1.png", "cell_aug_2.png", "cell_x.png"),
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0][:12])
def test_names_tell(names: tuple[str, str, str]) -> None:
    found = named_versions(names, [0, 0, 0])
    assert found is not None and found.sure
    assert found.sources[0] == found.sources[1] != found.sources[2]
    assert (found.versions, found.pictures) == (2, 1)


@pytest.mark.parametrize("names", [("train/0", "val/0", "test/0"), ("cell_90.png", "cell_180.png", "cell_1.png")])
def test_other_names_do_not_tell(names: tuple[str, ...]) -> None:
    assert named_versions(names, [0, 0, 0]) is None


def test_names_of_a_generator_need_pixels_that_agree() -> None:
    assert named_versions([f"aug_a{place}_0_{17 * place}.png" for place in range(3)] * 2, [0] * 6) is not None
    images = np.stack([scene(seed) for seed in range(2 * COUNT)])
    names = [f"run_{place // 4}_{place}.png" for place in range(2 * COUNT)]
    assert not decided(images, [0, 1] * COUNT, names).warnings

"""Which images are left out, and why: on the demo set, where the truth is known, and on pictures of a few pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from data_prep import prepare
from data_prep.cleaning import copies, hashing, near_copies, steps
from data_prep.cleaning.user_anomalies import read_anomalies
from data_prep.errors import DataError
from data_prep.progress import Silent
from data_prep.settings import PrepareSettings
from data_prep.sources.demo_set import DemoSet, demo_images
from data_prep.sources.registry import read_source

REAL = Path(os.environ.get("HPSEARCH_REAL_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="session")
def demo() -> DemoSet:
    return demo_images(3)


def by_reason(decisions: prepare.Decisions) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for rejection in decisions.rejections:
        found.setdefault(rejection.reason, set()).add(rejection.index)
    return found


def test_the_demo_set_is_cleaned_of_what_was_planted_and_of_nothing_else(demo: DemoSet) -> None:
    decisions = prepare.decide(demo.data, PrepareSettings("demo"), Silent())
    truth = demo.truth
    assert by_reason(decisions) == {
        "recurring picture": {index for copies in truth.recurring for index in copies},
        "copy": {second for _, second in truth.copies},
        "contradicting labels": {index for pair in truth.conflicts for index in pair},
    }
    twins = {(rejection.twin, rejection.index) for rejection in decisions.rejections if rejection.reason == "copy"}
    assert twins == set(truth.copies)
    numbers, sizes = np.unique(decisions.groups[decisions.groups >= 0], return_counts=True)
    groups = {tuple(np.flatnonzero(decisions.groups == number).tolist()) for number in numbers[sizes > 1]}
    assert groups == set(truth.near_copies)
    assert all(len(set(decisions.sides[list(pair)])) == 1 for pair in truth.near_copies)
    assert len(decisions.warnings) == 1 and "% of class monocyte" in decisions.warnings[0]


def test_the_demo_set_is_the_same_for_the_same_seed(demo: DemoSet) -> None:
    assert 1400 < len(demo.data.images) < 1600
    assert demo.data.images.shape[1:] == (96, 96, 3)
    counts = np.bincount(demo.data.labels)
    assert counts.argmax() == demo.data.class_names.index("neutrophil") and counts.max() > 2 * counts.min()
    assert (demo_images(3).data.images[::100] == demo.data.images[::100]).all()


def textures(count: int, size: int = 24) -> np.ndarray:
    """Smooth random pictures, all different: uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size))) for one in small])


def candidates(images: np.ndarray, labels: list[int]) -> steps.Candidates:
    hashes = hashing.phashes(images)
    groups = tuple(tuple(group) for group in copies.copy_groups(images, hashes))
    return steps.Candidates(images, np.array(labels), hashes, ("a", "b"), groups, recurrence_limit=3)


def test_copies_go_by_the_first_rule_that_fits() -> None:
    picture = textures(4)
    images = np.stack([picture[i] for i in (0, 0, 0, 0, 1, 1, 2, 2, 3)])  # four times, one label, two labels, once
    found = steps.clean(candidates(images, [0, 1, 0, 1, 0, 0, 0, 1, 1]))
    assert [(one.index, one.reason, one.twin) for one in found] == [
        (0, "recurring picture", None),
        (1, "recurring picture", None),
        (2, "recurring picture", None),
        (3, "recurring picture", None),
        (5, "copy", 4),
        (6, "contradicting labels", None),
        (7, "contradicting labels", None),
    ]


def test_equal_hashes_without_equal_pixels_are_no_copies() -> None:
    flat = np.zeros((5, 24, 24, 3), np.uint8) + np.array([10, 60, 61, 120, 200], np.uint8)[:, None, None, None]
    hashes = hashing.phashes(flat)
    assert len(set(hashes.tolist())) == 1
    assert copies.copy_groups(flat, hashes) == [[1, 2]]


def test_copies_of_copies_are_one_group() -> None:
    steps = np.clip(textures(1).astype(int) // 2 + np.arange(0, 5)[:, None, None, None], 0, 255).astype(np.uint8)
    same = np.zeros(5, np.uint64)
    assert copies.copy_groups(steps, same) == [[0, 1, 2, 3, 4]]
    assert not copies.is_copy(steps[0], steps[4])


def test_hashes_are_those_of_imagehash_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 24, 24, 3), np.uint8)
    flat = np.full((256, 24, 24, 3), np.arange(256, dtype=np.uint8)[:, None, None, None])
    halves = flat[::8].copy()
    halves[:, :, 12:] = 255 - halves[:, :, 12:]
    images = np.concatenate([noise, noise // 64 + 100, textures(50), flat, halves])
    expected = [int(str(imagehash.phash(Image.fromarray(image))), 16) for image in images]
    assert hashing.phashes(images).tolist() == expected
    assert [hashing.phash(Image.fromarray(image)) for image in images[::20]] == expected[::20]
    assert len(hashing.phashes(images[:0])) == 0


@pytest.mark.parametrize("distance", [0, 1, 4, 9])
@pytest.mark.parametrize("compared", [1, 300, 2**19])
def test_near_hashes_are_those_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, compared: int, distance: int
) -> None:
    monkeypatch.setattr(copies, "_COMPARED", compared)
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**64, 40, np.uint64)
    flips = np.uint64(1) << rng.integers(0, 64, (distance + 2, 60), np.uint64)
    flips = np.bitwise_or.reduce(np.where(rng.random(flips.shape) < 0.6, flips, 0), axis=0)
    others = np.concatenate([hashes[rng.integers(0, 40, 60)] ^ flips, hashes[:5], hashes[:5]])
    images = np.zeros((len(others), 8, 8, 3), np.uint8)
    expected = np.argwhere(np.bitwise_count(hashes[:, None] ^ others) <= distance).tolist()
    likeness = copies.Likeness(distance, copies.is_copy)
    found = list(copies.matches((images, images), (hashes, others), likeness))
    assert found == [tuple(pair) for pair in expected] and len(found) > 10
    assert not list(copies.matches((images, images[:0]), (hashes, others[:0]), likeness))


def test_a_small_mark_makes_another_picture_that_belongs_to_the_same_group() -> None:
    """Parts before a fixed camera, good and scratched."""
    good = np.full((96, 96, 3), 120, np.uint8)
    good[20:70, 20:70] += np.random.default_rng(0).integers(0, 40, (50, 50, 1), np.uint8)
    scratched = good.copy()
    scratched[40:46, 30:36] -= 60
    again = good + np.random.default_rng(1).integers(0, 3, good.shape, np.uint8)
    assert copies.is_copy(good, again)
    assert not copies.is_copy(good, scratched) and near_copies.is_same_view(good, scratched)
    assert copies.differ_in_one_spot(good, scratched) and not copies.differ_in_one_spot(good, again)
    assert copies.copy_groups(np.stack([good, scratched, again]), np.zeros(3, np.uint64)) == [[0, 2]]


def test_a_given_picture_finds_its_copies_whatever_its_size(tmp_path: Path) -> None:
    images = textures(4)
    Image.fromarray(images[2]).resize((120, 90)).save(tmp_path / "ogre.png")
    given = replace(candidates(images, [0, 1, 0, 1]), anomalies=read_anomalies([str(tmp_path / "ogre.png")], (24, 24)))
    (found,) = steps.clean(given)
    assert (found.index, found.reason, found.detail) == (2, "given anomaly", "looks like ogre.png")
    assert found.distance is not None and found.distance <= near_copies.HASH_DISTANCE


def test_a_picture_that_is_none_cannot_be_given(tmp_path: Path) -> None:
    (tmp_path / "ogre.png").write_text("no picture")
    for name, reason in (("ogre.png", "not a JPEG, PNG, BMP, TIFF or WebP picture"), ("nowhere.png", "no such file")):
        with pytest.raises(DataError, match=reason):
            read_anomalies([str(tmp_path / name)], (24, 24))


def test_the_real_set_loses_exactly_what_is_known_of_it(tmp_path: Path) -> None:
    if not (REAL / "blood_cells.zip").is_file():
        pytest.skip(f"the real images are not in {REAL} (HPSEARCH_REAL_DATA)")
    path = tmp_path / "training_set.npz"
    subprocess.run([sys.executable, REAL / "make_training_set.py", path], check=True, capture_output=True)
    made = read_source(str(path))
    path.unlink()  # 380 MB
    decisions = prepare.decide(made, PrepareSettings("real"), Silent())
    assert {reason: len(found) for reason, found in by_reason(decisions).items()} == {
        "recurring picture": 1800,
        "copy": 16,
        "contradicting labels": 2,
    }
    kept = np.bincount(made.labels[decisions.sides >= 0]).tolist()
    assert kept == [846, 2174, 1085, 2023, 849, 992, 2329, 1643]

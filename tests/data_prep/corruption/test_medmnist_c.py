"""The published list of corruptions for BloodMNIST: complete, and each as its parameters say."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from data_prep.corruption.medmnist_c import CORRUPTIONS_BY_SEVERITY, REFERENCE_ERRORS, SEVERITIES, corrupt
from data_prep.errors import DataError
from data_prep.sources.demo_drawing import KINDS, draw_cell

every_corruption = pytest.mark.parametrize("name", CORRUPTIONS_BY_SEVERITY)


@cache
def cells(side: int = 96) -> np.ndarray:
    """A drawn cell of each class: uint8 (8, side, side, 3)."""
    drawn = (draw_cell(kind, np.random.default_rng(at)) for at, kind in enumerate(KINDS))
    return np.stack([cv2.resize(cell, (side, side), interpolation=cv2.INTER_CUBIC) for cell in drawn])


def moved(name: str, severity: int, images: np.ndarray, seeds: int = 4) -> float:
    """Mean absolute change in grey levels."""
    return float(
        np.mean(
            [
                np.abs(corrupt(image, name, severity, np.random.default_rng((at, seed))).astype(float) - image).mean()
                for at, image in enumerate(images)
                for seed in range(seeds)
            ]
        )
    )


def test_the_list_is_complete() -> None:
    assert len(CORRUPTIONS_BY_SEVERITY) == len(REFERENCE_ERRORS) == 11
    assert all(len(row.parameters) == 5 for row in CORRUPTIONS_BY_SEVERITY.values())
    assert np.mean(list(REFERENCE_ERRORS.values())) == pytest.approx(0.1125, abs=1e-4)


@every_corruption
@pytest.mark.parametrize("shape", [(96, 96), (32, 32), (28, 28), (40, 64)])
def test_shape_and_type_stay_and_a_generator_repeats_itself(name: str, shape: tuple[int, int]) -> None:
    image = np.ascontiguousarray(cells()[6][: shape[0], : shape[1]])
    image.flags.writeable = False
    for severity in SEVERITIES:
        once, twice = (corrupt(image, name, severity, np.random.default_rng(2)) for _ in range(2))
        assert once.shape == image.shape and once.dtype == np.uint8 and (once == twice).all()


@every_corruption
def test_the_change_grows_with_the_severity(name: str) -> None:
    changes = np.array([moved(name, severity, cells()) for severity in SEVERITIES])
    assert changes[0] > 0.3 and changes[4] > 1.4 * changes[0]
    assert (np.diff(changes) > -0.05 * changes[:-1]).all()  # the stain's parameters at 3 and 4 are the same


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "stain_deposit", "bubble"])
def test_lengths_are_scaled_to_the_image(name: str) -> None:
    assert moved(name, 4, cells()) / moved(name, 4, cells(224)) == pytest.approx(1, abs=0.3)


def test_a_blot_is_as_large_as_published() -> None:
    white = np.full((224, 224, 3), 255, np.uint8)
    dark = [(corrupt(white, "stain_deposit", 1, np.random.default_rng(seed)) < 128)[..., 0].sum() for seed in range(50)]
    assert np.mean(dark) == pytest.approx(360, rel=0.12)  # mean over the original's ten ink spots


@pytest.mark.parametrize(("name", "severity", "rule"), [("fog", 1, "corruption must"), ("bubble", 0, "severity must")])
def test_an_unknown_corruption_is_refused(name: str, severity: int, rule: str) -> None:
    with pytest.raises(DataError, match=rule):
        corrupt(cells()[0], name, severity, np.random.default_rng(0))

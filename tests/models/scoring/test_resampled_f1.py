"""The figures of many trials over the same draws are those of Resampling, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from models.scoring.intervals import Resampling
from models.scoring.resampled_f1 import ResampledF1


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("images", [60, 9000])  # beyond 5,461 images of two views the counts need more than 16 bits
def test_the_same_macro_f1_as_one_trial_and_set_at_a_time(images: int, grouped: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, images)
    groups = rng.integers(0, images // 6, images) if grouped else None
    resampling = Resampling(labels, 5, resamples=7, groups=groups)  # class 4 has no images
    sets = [np.ones((images, 2), bool), rng.random((images, 2)) < 0.3, rng.random((images, 2)) < 0.6]
    sets[2] &= (labels != 2)[:, None]  # a family may lack a class
    right = rng.random((3, images, 2)) < np.array([1.0, 0.8, 0.0])[:, None, None]
    guesses = np.where(right, labels[:, None], rng.integers(0, 5, right.shape))
    found = ResampledF1(resampling, sets).of(guesses)
    assert found.shape == (3, 3, 7)
    for taken, by_trial in zip(sets, found, strict=True):
        for one, figures in zip(guesses, by_trial, strict=True):
            np.testing.assert_allclose(figures, resampling.figures(one, taken, present=True).macro_f1, rtol=1e-12)

"""Intervals against scikit-learn on the same draws, against theory, and the draws themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from models.scoring.intervals import Resampling, difference_interval, interval
from models.scoring.resampled_f1 import ResampledF1


def guessed(n: int = 300, views: int = 2, right: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) of 4 classes and guesses (n, views), of which about `right` are right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    wrong = (labels[:, None] + rng.integers(1, 4, (n, views))) % 4
    return labels, np.where(rng.random((n, views)) < right, labels[:, None], wrong)


def test_each_resample_has_the_figures_that_scikit_learn_gives_for_it() -> None:
    labels, guesses = guessed(40)
    views = np.random.default_rng(1).random(guesses.shape) < 0.6
    resampling = Resampling(labels, 5, resamples=7)  # class 4 has no images: its F1 is 0
    found = resampling.figures(guesses, views)
    rows, columns = np.nonzero(views)
    for number, counts in enumerate(resampling.counts):
        pair = (labels[rows], guesses[rows, columns])
        options = {"labels": range(5), "average": "macro", "zero_division": 0, "sample_weight": counts[rows]}
        assert found.accuracy[number] == pytest.approx(accuracy_score(*pair, sample_weight=counts[rows]))
        assert found.macro_f1[number] == pytest.approx(f1_score(*pair, **options))
        assert found.macro_recall[number] == pytest.approx(recall_score(*pair, **options))


def test_draws_keep_each_class_and_repeat_with_the_seed() -> None:
    labels, _ = guessed(50)
    counts = Resampling(labels, 4, resamples=20).counts
    for label in range(4):
        assert (counts[:, labels == label].sum(axis=1) == (labels == label).sum()).all()
    assert (Resampling(labels, 4, resamples=20).counts == counts).all()
    assert (Resampling(labels, 4, resamples=20, seed=1).counts != counts).any()


def test_the_interval_of_an_accuracy_is_that_of_theory() -> None:
    labels, guesses = guessed(1000, views=1)
    accuracy = (guesses[:, 0] == labels).mean()
    low, high = Resampling(labels, 4).figures(guesses[:, 0]).intervals()["accuracy"]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 1000)
    assert (low, high) == (pytest.approx(accuracy - half, abs=0.003), pytest.approx(accuracy + half, abs=0.003))


def test_views_of_one_image_are_drawn_together() -> None:
    """Ten equal views of an image tell no more than one: the interval must not shrink."""
    labels, guesses = guessed(views=1)
    alone, repeated = (Resampling(labels, 4).figures(which) for which in (guesses, np.repeat(guesses, 10, axis=1)))
    assert repeated.intervals() == {name: pytest.approx(value) for name, value in alone.intervals().items()}


def test_images_of_one_group_are_drawn_together() -> None:
    """A hundred patients with ten images each, all right or all wrong, tell no more than a hundred images."""
    labels, guesses = guessed(100, views=1)
    groups = np.repeat(np.arange(100), 10)
    alone = Resampling(labels, 4).figures(guesses)
    many = Resampling(np.repeat(labels, 10), 4, groups=groups)
    assert many.figures(np.repeat(guesses, 10, axis=0)).intervals() == {
        name: pytest.approx(value) for name, value in alone.intervals().items()
    }
    counts = many.counts.reshape(-1, 100, 10)
    assert (counts == counts[..., :1]).all()
    mixed = Resampling(np.tile([0, 1], 50), 2, groups=np.repeat(np.arange(10), 10))  # each has both classes
    assert (mixed.counts.sum(axis=1) == 100).all()


def test_a_class_that_no_drawn_group_has_takes_nothing_from_the_mean() -> None:
    """Patients with several classes, one of which two of them have alone; every answer is right."""
    labels = np.concatenate([np.tile([0, 1], 40), [0, 2, 0, 2]])
    groups = np.concatenate([np.repeat(np.arange(10), 8), [10, 10, 11, 11]])
    found = Resampling(labels, 3, groups=groups).figures(labels)
    assert np.isnan(found.class_f1[:, 2]).any() and not np.isnan(found.class_f1[:, :2]).any()
    assert found.intervals() == {name: [1.0, 1.0] for name in found.intervals()}
    assert interval(found.class_f1[:, 2]) == [1.0, 1.0]
    many = ResampledF1(Resampling(labels, 3, groups=groups), [np.ones((len(labels), 1), bool)])
    assert (many.of(labels[None, :, None]) == 1).all()


def test_interval_of_a_difference() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx([25.0, 975.0])
    assert difference_interval(0.9, [0.87, 0.94], 0.8, [0.75, 0.84]) == pytest.approx(
        [0.05, 0.1 + np.hypot(0.04, 0.05)]
    )

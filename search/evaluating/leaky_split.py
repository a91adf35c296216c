"""Show on the user's own images how splitting after augmenting inflates a score.

The same network is trained twice; the two trainings differ only in whether the images are split or augmented first.
Importing this module imports Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from data_prep.progress import Progress
from data_prep.storage.images_csv import KEPT, read_table
from data_prep.storage.reader import PreparedSet
from models.backbones.registry import UNTRAINED
from models.feeding.batches import TrainingViews
from models.feeding.training_data import TrainingData
from models.hyperparameters import NO_AUGMENTATION, Hyperparameters
from models.networks.predicting import predict
from models.scoring.metrics import figures
from models.training.plan import Plan
from models.training.recipe import Recipe
from models.training.trial import run_trial
from search.engine.job import NetworkSource
from search.engine.keras_trainer import classifier_settings
from search.errors import SearchError

UNSEEN_SHARE = 1 / 3
VALIDATION_SHARE = 0.3  # as in the published recipes that split after augmenting
# Trains from scratch, quickly, with nothing that hinders memorizing; larger pretrained networks memorize in any case.
BASELINE = Hyperparameters(
    frozen_fraction=0.0, dropout=0.0, learning_rate=3e-3, optimizer="adam", augmentation=NO_AUGMENTATION
)


@dataclass(frozen=True)
class Versions:
    """Images with their stored views. The versions of one image are consecutive, the image itself first."""

    images: np.ndarray
    """Versions of all images, uint8 (n * per_image, h, w, 3)."""
    labels: np.ndarray
    """Labels, int64 (n * per_image,)."""
    groups: np.ndarray
    """Names of groups of copies and near copies, (n * per_image,)."""
    per_image: int
    """Number of versions of each image, including the image itself."""

    def rows_of(self, parents: np.ndarray) -> np.ndarray:
        """Return the rows of all versions of these images, int64 (len(parents) * per_image,)."""
        rows: np.ndarray = (parents[:, None] * self.per_image + np.arange(self.per_image)).ravel()
        return rows


@dataclass(frozen=True)
class Split:
    """Rows of `Versions` for training and for validation."""

    training: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Scores of one of the two networks; accuracies and F1 in 0..1."""

    training_images: int
    validation_images: int
    known_share: float
    """Share of the validation images that have a version from their group in training."""
    accuracy: float
    macro_f1: float
    unseen_accuracy: float
    unseen_macro_f1: float
    chance: float
    """Two standard errors of `overstated`, computed over images, since versions of one image are not independent."""

    @property
    def overstated(self) -> float:
        """Validation accuracy minus the accuracy on images that the network has never seen."""
        return self.accuracy - self.unseen_accuracy


def what_if_leaky(
    prepared: PreparedSet, images: int, epochs: int, seed: int, progress: Progress
) -> tuple[Measured, Measured]:
    """Train the small network twice: split after augmenting, then split first.

    Originals come from the training side of the prepared set, with one stored view of each level. A third of their
    groups is held out from both trainings. The rest is split 70/30: first all versions at random, then whole groups.
    Both trainings have the same numbers of training and validation versions, the same epochs and the same seed, and
    both networks are scored on all versions of the held-out third. The locked test set is not read.

    Args:
        images: Maximum number of originals.

    Returns:
        The scores with the split after augmenting, and those with the split first.

    Raises:
        SearchError: A class has too few images or groups, or the prepared set has no augmented views.
    """
    versions = read_versions(prepared, images, seed)
    pool, unseen = divided_by_group(versions, np.arange(len(versions.labels) // versions.per_image), UNSEEN_SHARE, seed)
    unseen_rows = versions.rows_of(unseen)
    measured = []
    for title, split in (
        ("split after augmenting", split_after(versions, pool, seed)),
        ("split first", split_first(versions, pool, seed)),
    ):
        progress.start(f"training, {title}", epochs * len(split.training))
        plan = _plan(prepared, epochs, seed)
        measured.append(_measure(plan, versions, split, unseen_rows, progress.advance))
    return measured[0], measured[1]


def read_versions(prepared: PreparedSet, most: int, seed: int) -> Versions:
    """Read at most `most` training originals, with classes in proportion, and the first view of each level.

    Raises:
        SearchError: The prepared set has no augmented views, or a class has too few images.
    """
    if not prepared.levels:
        raise SearchError(
            "--what-if-leaky needs augmented views, and the prepared set has none: run `hpsearch prepare --levels low`"
        )
    labels = prepared.labels("train")
    rows = np.arange(len(labels))
    if most < len(labels):
        rows = np.sort(_stratified(rows, labels, len(labels) - most, seed)[0])
    table = read_table(prepared.folder / "images.csv")
    groups = {int(row.row): row.group for row in table if row.decision == KEPT and row.split == "train"}
    views = [prepared.images("train")[rows], *(prepared.bank(level)[rows, 0] for level in prepared.levels)]
    return Versions(
        np.stack(views, axis=1).reshape(-1, *prepared.image_shape),
        labels[rows].repeat(len(views)),
        np.array([groups[row] for row in rows.tolist()]).repeat(len(views)),
        len(views),
    )


def split_after(versions: Versions, pool: np.ndarray, seed: int) -> Split:
    """Make the leaky split: all versions of the pool's images at random, with the sizes of `split_first`."""
    size = len(split_first(versions, pool, seed).validation)
    rows = versions.rows_of(pool)
    return Split(*_stratified(rows, versions.labels[rows], size, seed))


def split_first(versions: Versions, pool: np.ndarray, seed: int) -> Split:
    """Make the correct split: whole groups of images to either side, then their versions."""
    training, validation = divided_by_group(versions, pool, VALIDATION_SHARE, seed)
    return Split(versions.rows_of(training), versions.rows_of(validation))


def divided_by_group(versions: Versions, parents: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide images into two parts by whole groups, with classes in proportion; the second gets `share` of groups."""
    groups = versions.groups[:: versions.per_image][parents]
    labels = versions.labels[:: versions.per_image][parents]
    names, first = np.unique(groups, return_index=True)
    taken = np.isin(groups, _stratified(names, labels[first], share, seed)[1])
    return parents[~taken], parents[taken]


def _stratified(items: np.ndarray, labels: np.ndarray, second: float | int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        parts = train_test_split(items, test_size=second, stratify=labels, random_state=seed)
    except ValueError as error:
        raise SearchError(
            f"--what-if-leaky must have images of each class in each of its parts, but has too few ({error}): raise "
            "--images, or prepare more images"
        ) from error
    return parts[0], parts[1]


def _plan(prepared: PreparedSet, epochs: int, seed: int) -> Plan:
    settings = classifier_settings(NetworkSource(str(prepared.folder), "small_cnn", UNTRAINED))
    # No early stopping, so that both train for the same epochs. A patient plateau schedule leaves time to memorize.
    recipe = Recipe(epochs=epochs, plateau_patience=4, early_stopping_patience=epochs)
    return Plan(settings, BASELINE, recipe, "macro_f1", seed)


def _measure(
    plan: Plan, versions: Versions, split: Split, unseen: np.ndarray, advance: Callable[[int], None]
) -> Measured:
    data = TrainingData(
        views=TrainingViews(versions.images[split.training], (), versions.labels[split.training]),
        class_weights=(1.0,) * plan.classifier.classes,
        validation_images=versions.images[split.validation],
        validation_labels=versions.labels[split.validation],
    )

    def report(_: object) -> bool:
        advance(len(split.training))
        return False

    outcome = run_trial(plan, data, report)
    assert outcome.probabilities is not None  # only a stopped trial has none
    own = outcome.best.validation
    probabilities = predict(outcome.classifier.joined, versions.images[unseen])
    true = figures(versions.labels[unseen], probabilities)
    variance = _variance(versions, split.validation, outcome.probabilities) + _variance(versions, unseen, probabilities)
    return Measured(
        training_images=len(split.training),
        validation_images=len(split.validation),
        known_share=float(np.isin(versions.groups[split.validation], versions.groups[split.training]).mean()),
        accuracy=own["accuracy"],
        macro_f1=own["macro_f1"],
        unseen_accuracy=true["accuracy"],
        unseen_macro_f1=true["macro_f1"],
        chance=2 * float(np.sqrt(variance)),
    )


def _variance(versions: Versions, rows: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the variance of the accuracy on these rows, with images as clusters of unequal size.

    Source: Cochran, Sampling Techniques, 1977, 9A.5.
    """
    right = probabilities.argmax(axis=1) == versions.labels[rows]
    excess = np.bincount(rows // versions.per_image, weights=right - right.mean())
    return float((excess**2).sum() / len(rows) ** 2)


def explain(leaky: Measured, proper: Measured) -> str:
    """Explain both measurements in plain words, and say which number to trust."""
    known = f"{leaky.known_share:.0%} of the validation images have another version of themselves in training"
    if leaky.overstated <= leaky.chance:
        return (
            f"Split after augmenting, {known}. Here the small network memorizes too little for the leak to show beyond "
            f"chance ({100 * leaky.chance:.0f} points with so few images), unlike larger networks. "
            "Trust the number of a split that came first."
        )
    return (
        f"Split after augmenting, {known}, so the network is asked about pictures it has memorized: its validation "
        f"accuracy lies {_points(leaky)} above what it reaches on pictures that it has never seen. Where "
        f"the split came first the difference is {_points(proper)}. Trust the number of the split that came first, "
        "lower or not: it is measured on pictures that the network does not know."
    )


def _points(measured: Measured) -> str:
    return f"{100 * measured.overstated:.1f} points (chance alone explains up to {100 * measured.chance:.1f})"

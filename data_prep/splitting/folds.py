"""Split the training images of a prepared set into folds for cross-validation; groups stay whole."""

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from data_prep.errors import DataError
from data_prep.storage.reader import PreparedSet


def training_folds(prepared: PreparedSet, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each training image. Folds are stratified by class, and no group is in two folds.

    Args:
        prepared: set whose training images are assigned.
        folds: number of folds, 2 or more.
        seed: random seed of the assignment.

    Returns:
        int64 (n_train,), 0 <= fold < folds.

    Raises:
        DataError: `check_folds` rejects the number of folds.
    """
    check_folds(prepared, folds)
    labels, groups = prepared.labels("train"), prepared.groups("train")
    result = np.zeros(len(labels), np.int64)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for fold, (_, held_out) in enumerate(parts):
        result[held_out] = fold
    return result


def check_folds(prepared: PreparedSet, folds: int) -> None:
    """Check that the training images can be split into this number of folds.

    Raises:
        DataError: there are fewer than 2 folds, or the training images of a class are in fewer groups than folds.
    """
    labels, groups = prepared.labels("train"), prepared.groups("train")
    held_by = [len(np.unique(groups[labels == label])) for label in range(len(prepared.class_names))]
    if not 2 <= folds <= min(held_by):
        name = prepared.class_names[int(np.argmin(held_by))]
        raise DataError(
            f"folds must be 2 to {min(held_by)}, the number of training groups with images of class {name}, but are "
            f"{folds}: ask for fewer folds, or add images of that class"
        )

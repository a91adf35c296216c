"""The training side of a prepared set in parts for cross-validation, whole groups together."""

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from data_prep.errors import DataError
from data_prep.storage.reader import PreparedSet


def training_folds(prepared: PreparedSet, folds: int, seed: int) -> np.ndarray:
    """Fold of each training image, int64 (n_train,), 0 <= fold < folds; stratified, a group never in two.

    Args:
        folds: 2 or more.
        seed: of the assignment.

    Raises:
        DataError: as `check_folds` has it.
    """
    check_folds(prepared, folds)
    labels, groups = prepared.labels("train"), prepared.groups("train")
    result = np.zeros(len(labels), np.int64)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for fold, (_, held_out) in enumerate(parts):
        result[held_out] = fold
    return result


def check_folds(prepared: PreparedSet, folds: int) -> None:
    """DataError where a class has training images in fewer groups than there are folds, or these are fewer than 2."""
    labels, groups = prepared.labels("train"), prepared.groups("train")
    held_by = [len(np.unique(groups[labels == label])) for label in range(len(prepared.class_names))]
    if not 2 <= folds <= min(held_by):
        name = prepared.class_names[int(np.argmin(held_by))]
        raise DataError(
            f"folds must be 2 to {min(held_by)}, the number of training groups with images of class {name}, but are "
            f"{folds}: ask for fewer folds, or add images of that class"
        )

"""The training side of a prepared set in parts for cross-validation, whole groups together."""

import numpy as np
from sklearn.model_selection import StratifiedKFold

from data_prep.errors import DataError
from data_prep.image_table import KEPT, read_table
from data_prep.prepared import PreparedSet


def training_folds(prepared: PreparedSet, folds: int, seed: int) -> np.ndarray:
    """Fold of each training image, int64 (n_train,), 0 <= fold < folds; stratified, a group never in two.

    Args:
        folds: 2 or more.
        seed: of the assignment.

    Raises:
        DataError: a class has fewer groups than there are folds.
    """
    labels = prepared.labels("train")
    groups = np.zeros(len(labels), np.int64)
    for row in read_table(prepared.folder / "images.csv"):
        if row.decision == KEPT and row.split == "train":
            groups[int(row.row)] = int(row.group)
    # One row a group, with the class of its first image: whole groups move, and classes stay in proportion.
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    sizes = np.bincount(labels[first], minlength=len(prepared.class_names))
    if not 2 <= folds <= sizes.min():
        name = prepared.class_names[int(sizes.argmin())]
        raise DataError(
            f"folds must be 2 to {sizes.min()}, the number of training groups of class {name}, but are {folds}: "
            "ask for fewer folds, or add images of that class"
        )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(first, labels[first])
    fold_of_group = np.zeros(len(first), np.int64)
    for fold, (_, held_out) in enumerate(parts):
        fold_of_group[held_out] = fold
    result: np.ndarray = fold_of_group[inverse]
    return result

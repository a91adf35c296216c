"""Labels of an .npz file: numbers of classes, or one-hot columns."""

from pathlib import Path

import numpy as np

from data_prep.errors import DataError

MAX_CLASSES = 10_000


def check_label_header(shape: tuple[int, ...], dtype: np.dtype, key: str, path: Path) -> None:
    """Raises DataError unless these are integers (n,) or (n, 1), or numbers or booleans (n, classes)."""
    if len(shape) == 2 and shape[1] > 1:
        if dtype.kind not in "iufb":
            raise DataError(f"{path}: one-hot {key} must be numbers, but are {dtype}: write 0 and 1")
        if shape[1] > MAX_CLASSES:
            raise DataError(f"{path}: {key} must have at most {MAX_CLASSES} columns, one a class, but have {shape}")
        return
    if dtype.kind not in "iu":
        raise DataError(f"{path}: {key} must be integers, but are {dtype}: number the classes 0, 1, 2, ...")
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise DataError(f"{path}: {key} must have the shape (n,), (n, 1) or one-hot (n, classes), but have {shape}")


def class_numbers(labels: np.ndarray, key: str, path: Path) -> tuple[np.ndarray, int]:
    """Number of each image's class, and how many classes there are.

    Args:
        labels: as `check_label_header` lets them pass, not empty.
        key: in the file, for errors.
        path: of the file, for errors.

    Returns:
        int64 (n,), and the number of columns, or one more than the highest number.

    Raises:
        DataError: a row without exactly one 1, or numbers below 0 or beyond MAX_CLASSES.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels, key, path), labels.shape[1]
    numbers = labels.reshape(-1)
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0:
        raise DataError(f"{path}: {key} must be 0 or more, but row {int(numbers.argmin())} has {low}")
    if high >= MAX_CLASSES:
        raise DataError(
            f"{path}: {key} are out of range: row {int(numbers.argmax())} has {high}, beyond {MAX_CLASSES} classes: "
            "number the classes 0, 1, 2, ... without gaps"
        )
    return numbers.astype(np.int64), high + 1


def _from_one_hot(labels: np.ndarray, key: str, path: Path) -> np.ndarray:
    ones = labels == 1
    right = (ones.sum(axis=1) == 1) & (ones | (labels == 0)).all(axis=1)
    wrong = np.flatnonzero(~right)
    if len(wrong):
        row = labels[wrong[0]]
        shown = " ".join(f"{float(value):g}" for value in row[:12]) + (" ..." if len(row) > 12 else "")
        raise DataError(
            f"{path}: each row of one-hot {key} must have one 1 and else 0, but row {wrong[0]} is {shown}: "
            "an image can have one class only"
        )
    numbers: np.ndarray = ones.argmax(axis=1).astype(np.int64)
    return numbers

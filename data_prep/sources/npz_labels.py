"""Labels of an .npz file: class numbers, one-hot columns, or class names."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.sources.listing import require_distinct
from data_prep.sources.table_source import label_order

MAX_CLASSES = 10_000
_TEXT = "US"
"""Kinds of dtype that hold names: Unicode (U), and bytes in UTF-8 (S)."""


def check_label_header(shape: tuple[int, ...], dtype: np.dtype, key: str, path: Path) -> None:
    """Require integers or names of shape (n,) or (n, 1), or numbers or booleans of shape (n, classes).

    Args:
        shape: Shape of the labels.
        dtype: Dtype of the labels.
        key: Key of the labels in the file, for errors.
        path: Path of the file, for errors.

    Raises:
        DataError: The labels have another shape or dtype.
    """
    if len(shape) == 2 and shape[1] > 1:
        if dtype.kind not in "iufb":
            raise DataError(f"{path}: one-hot {key} must be numbers, but are {dtype}: write 0 and 1")
        if shape[1] > MAX_CLASSES:
            raise DataError(
                f"{path}: {key} must have at most {MAX_CLASSES} columns, one per class, but have the shape {shape}"
            )
        return
    if dtype.kind not in "iu" + _TEXT:
        raise DataError(f"{path}: {key} must be integers or names, but are {dtype}: number the classes 0, 1, 2, ...")
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise DataError(f"{path}: {key} must have the shape (n,), (n, 1) or one-hot (n, classes), but have {shape}")


def classes_of(labels: Mapping[str, np.ndarray], path: Path) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Return the class number of each image, and the names of the classes.

    Classes given as numbers are named by their digits. Class names are sorted as in tables: whole numbers first, by
    value, then the others alphabetically.

    Args:
        labels: Labels by their key in the file, checked by `check_label_header`, not empty.
        path: Path of the file, for errors.

    Returns:
        int64 (n,) for each key, and the names of the classes, indexed by number.

    Raises:
        DataError: `class_numbers` fails, names and numbers are mixed, a name is empty or unprintable, two names are too
            similar, or there are more than MAX_CLASSES names.
    """
    texts = [key for key, array in labels.items() if array.dtype.kind in _TEXT]
    if not texts:
        read = [class_numbers(array, key, path) for key, array in labels.items()]
        return [numbers for numbers, _ in read], tuple(str(label) for label in range(max(count for _, count in read)))
    if len(texts) < len(labels):
        others = ", ".join(key for key in labels if key not in texts)
        raise DataError(
            f"{path}: labels must be all names or all numbers, but {', '.join(texts)} are names and {others} are "
            "numbers: write one kind everywhere"
        )
    words = [_words(array.reshape(-1), key, path) for key, array in labels.items()]
    names = sorted({word for some in words for word in some}, key=label_order)
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{path}: {', '.join(texts)} must have at most {MAX_CLASSES} different names, but have {len(names):,}"
        )
    require_distinct(names, str(path))
    numbers = {name: number for number, name in enumerate(names)}
    return [np.array([numbers[word] for word in some], np.int64) for some in words], tuple(names)


def _words(labels: np.ndarray, key: str, path: Path) -> list[str]:
    """Return the labels as text, without the spaces that often pad names to equal length."""
    try:
        texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
        words = [str(word).strip() for word in texts]
    except ValueError as error:  # invalid UTF-8 or Unicode
        raise DataError(f"{path}: {key} must be readable names, but are not ({error}): write them as UTF-8") from error
    for row, word in enumerate(words):
        if not (word and word.isprintable()):
            raise DataError(f"{path}: each name in {key} must be printable text, but row {row} is {word!r}")
    return words


def class_numbers(labels: np.ndarray, key: str, path: Path) -> tuple[np.ndarray, int]:
    """Return the class number of each image, and the number of classes.

    Args:
        labels: Numbers or one-hot rows, checked by `check_label_header`, not empty.
        key: Key of the labels in the file, for errors.
        path: Path of the file, for errors.

    Returns:
        int64 (n,), and the number of classes: the number of one-hot columns, or the highest class number plus 1.

    Raises:
        DataError: A one-hot row does not have exactly one 1, or a number is below 0, or MAX_CLASSES or higher.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels, key, path), labels.shape[1]
    numbers = labels.reshape(-1)
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0:
        raise DataError(f"{path}: {key} must be 0 or more, but row {int(numbers.argmin())} has {low}")
    if high >= MAX_CLASSES:
        raise DataError(
            f"{path}: {key} must be below {MAX_CLASSES}, but row {int(numbers.argmax())} has {high}: "
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
            f"{path}: each row of one-hot {key} must be one 1 and otherwise 0, but row {wrong[0]} is {shown}: "
            "an image can have one class only"
        )
    numbers: np.ndarray = ones.argmax(axis=1).astype(np.int64)
    return numbers

"""Labels of an .npz file: numbers of classes, one-hot columns, or names of classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.sources.listing import require_distinct
from data_prep.sources.table_source import label_order

MAX_CLASSES = 10_000
_TEXT = "US"
"""Kinds of dtype that hold names: Unicode, and bytes that are UTF-8."""


def check_label_header(shape: tuple[int, ...], dtype: np.dtype, key: str, path: Path) -> None:
    """Raises DataError unless these are integers or names (n,) or (n, 1), or numbers or booleans (n, classes)."""
    if len(shape) == 2 and shape[1] > 1:
        if dtype.kind not in "iufb":
            raise DataError(f"{path}: one-hot {key} must be numbers, but are {dtype}: write 0 and 1")
        if shape[1] > MAX_CLASSES:
            raise DataError(f"{path}: {key} must have at most {MAX_CLASSES} columns, one a class, but have {shape}")
        return
    if dtype.kind not in "iu" + _TEXT:
        raise DataError(f"{path}: {key} must be integers or names, but are {dtype}: number the classes 0, 1, 2, ...")
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise DataError(f"{path}: {key} must have the shape (n,), (n, 1) or one-hot (n, classes), but have {shape}")


def classes_of(labels: Mapping[str, np.ndarray], path: Path) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Number of each image's class, and what the classes are called: numbers by their digits; names in their order,
    whole numbers by value and before others, as of tables.

    Args:
        labels: by their key in the file, as `check_label_header` lets them pass, not empty.
        path: of the file, for errors.

    Returns:
        int64 (n,) for each key, and the names.

    Raises:
        DataError: as `class_numbers` does; names beside numbers, empty or unprintable ones, two that are nearly one, or
            more than MAX_CLASSES.
    """
    texts = [key for key, array in labels.items() if array.dtype.kind in _TEXT]
    if not texts:
        read = [class_numbers(array, key, path) for key, array in labels.items()]
        return [numbers for numbers, _ in read], tuple(str(label) for label in range(max(count for _, count in read)))
    if len(texts) < len(labels):
        others = ", ".join(key for key in labels if key not in texts)
        raise DataError(f"{path}: {', '.join(texts)} are names and {others} are numbers: write all of them in one way")
    words = [_words(array.reshape(-1), key, path) for key, array in labels.items()]
    names = sorted({word for some in words for word in some}, key=label_order)
    if len(names) > MAX_CLASSES:
        raise DataError(f"{path}: {', '.join(texts)} have {len(names):,} names, beyond {MAX_CLASSES} classes")
    require_distinct(names, str(path))
    numbers = {name: number for number, name in enumerate(names)}
    return [np.array([numbers[word] for word in some], np.int64) for some in words], tuple(names)


def _words(labels: np.ndarray, key: str, path: Path) -> list[str]:
    """Without the spaces around them, with which names of one length are often filled up."""
    try:
        texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
        words = [str(word).strip() for word in texts]
    except ValueError as error:  # no UTF-8, or no Unicode
        raise DataError(f"{path}: {key} are no names that can be read ({error}): write them as UTF-8") from error
    for row, word in enumerate(words):
        if not (word and word.isprintable()):
            raise DataError(f"{path}: each name in {key} must be printable text, but row {row} is {word!r}")
    return words


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

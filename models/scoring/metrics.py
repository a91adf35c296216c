"""Metrics of a classifier, computed with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support


def figures(labels: np.ndarray, probabilities: np.ndarray, *, present: bool = False) -> dict[str, float]:
    """Return accuracy, log loss, and macro and weighted precision, recall and F1.

    A class that is never predicted has a precision and an F1 of 0.

    Args:
        labels: int (n,), 0 <= label < classes.
        probabilities: float32 (n, classes), each row sums to 1.
        present: Average over the classes that occur in `labels` only. Predictions may be of any class in either case.
    """
    guesses, classes = probabilities.argmax(axis=1), np.arange(probabilities.shape[1])
    averaged = np.unique(labels) if present else classes
    result = {
        "accuracy": float((guesses == labels).mean()),
        "loss": float(log_loss(labels, probabilities, labels=classes)),
    }
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels, guesses, labels=averaged, average=average, zero_division=0
        )
        result |= {f"{average}_precision": precision, f"{average}_recall": recall, f"{average}_f1": f1}
    return {name: float(value) for name, value in result.items()}


def per_class(labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return precision, recall, F1 and number of images of each class, by name. Arguments as for `figures`."""
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(len(class_names)), zero_division=0
    )
    keys = ("precision", "recall", "f1", "images")
    rows = zip(class_names, zip(*columns, strict=True), strict=True)
    return {name: {key: value.item() for key, value in zip(keys, row, strict=True)} for name, row in rows}


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> list[list[int]]:
    """Return the confusion matrix as counts: one row per true class, one column per predicted class."""
    classes = np.arange(probabilities.shape[1])
    matrix: list[list[int]] = confusion_matrix(labels, probabilities.argmax(axis=1), labels=classes).tolist()
    return matrix

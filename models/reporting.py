"""The figures of an exported model, with the picture of its confusions."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from models.metrics import confusion, figures, per_class


def full_figures(labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]) -> dict[str, Any]:
    """`figures`, and per class, and the confusion matrix (rows: true class). Arguments as models.metrics has them."""
    return {
        "images": len(labels),
        **figures(labels, probabilities),
        "per_class": per_class(labels, probabilities, class_names),
        "confusion_matrix": confusion(labels, probabilities),
    }


def draw_confusion(matrix: list[list[int]], class_names: tuple[str, ...], title: str, target: Path) -> None:
    """Counts on a colour scale of each true class's share, as a PNG picture."""
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 2.5 + 0.6 * len(class_names)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    # Names are the user's: `$` must not start a formula.
    names = [name.replace("$", r"\$") for name in class_names]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # names may be in any script
        figure.savefig(target, dpi=110)

"""Picture of a confusion matrix. Its cost does not grow with the square of the number of classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_NUMBERED = 30
"""Most classes whose counts are written into the cells. Each text costs milliseconds and more kilobytes than pixels."""
MOST_CELLS = 250
"""Most cells on a side. More classes share cells, or single confusions would be thinner than a pixel."""
LISTED_PAIRS = 30
NAMED_TICKS = 25
LONGEST_NAME = 30


def draw_confusion(matrix: list[list[int]], class_names: tuple[str, ...], title: str, target: Path) -> None:
    """Write a confusion matrix as a PNG picture.

    Up to MOST_NUMBERED classes have counts in their cells, coloured by their share of the true class. More classes are
    drawn as colours alone, beside a list of the pairs that are confused most often.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    names = [shortened(name) for name in class_names]
    figure = Figure(layout="constrained")
    if len(names) <= MOST_NUMBERED:
        axes = _draw_numbered(figure, counts, share, names)
    else:
        axes = _draw_coloured(figure, counts, share, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # class names may be in any script
        figure.savefig(target, dpi=110, bbox_inches="tight")  # rotated names may reach beyond the figure


def shortened(name: str) -> str:
    """Return a class name on one line of at most LONGEST_NAME characters."""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def confused_pairs(matrix: Sequence[Sequence[int]], most: int) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions as (true class, predicted class, images), most frequent first."""
    wrong = np.array(matrix)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(row), int(column)) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    return [(row, column, int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _draw_numbered(figure: Any, counts: np.ndarray, share: np.ndarray, names: list[str]) -> Any:
    side = 2.5 + 0.6 * len(names)
    figure.set_size_inches(side + 0.5, side)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    return axes


def _draw_coloured(figure: Any, counts: np.ndarray, share: np.ndarray, names: list[str]) -> Any:
    from matplotlib.colors import PowerNorm

    figure.set_size_inches(16, 9.5)
    axes, beside = figure.subplots(1, 2, width_ratios=(3, 2))
    each = -(-len(names) // MOST_CELLS)
    norm = PowerNorm(0.5, vmin=0, vmax=1)  # or a confusion of a few percent would look like none
    end = each * -(-len(names) // each)
    picture = axes.imshow(_largest_of_blocks(share, each), cmap="Blues", norm=norm, extent=(0, end, end, 0))
    of_cell = f"largest share in {each}x{each} classes" if each > 1 else "share of the true class"
    figure.colorbar(picture, ax=axes, location="left", shrink=0.6, label=of_cell)
    places = np.arange(0, len(names), -(-len(names) // NAMED_TICKS))
    ticks = [names[place] for place in places]
    axes.set_xticks(places + 0.5, ticks, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(places + 0.5, ticks, fontsize=7, parse_math=False)
    beside.axis("off")
    pairs = confused_pairs(counts.tolist(), LISTED_PAIRS)
    lines = [
        f"{number:,} ({100 * share[row, column]:.0f} %)  {names[row]} → {names[column]}"
        for row, column, number in pairs
    ]
    head = "Most frequent confusions: images (share of the true class)  true → predicted"
    text = "\n".join([head, "", *(lines or ["none"])])
    beside.text(0, 1, text, transform=beside.transAxes, va="top", fontsize=9, linespacing=1.45, parse_math=False)
    return axes


def _largest_of_blocks(share: np.ndarray, each: int) -> np.ndarray:
    """Return the largest value of each block of `each` x `each` cells; the last blocks may hold fewer."""
    missing = -len(share) % each
    padded = np.pad(share, ((0, missing), (0, missing)))
    blocks = len(padded) // each
    largest: np.ndarray = padded.reshape(blocks, each, blocks, each).max(axis=(1, 3))
    return largest

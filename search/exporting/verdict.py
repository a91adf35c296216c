"""The verdict on an exported model in a few sentences: how good it is, and whether its validation score flatters it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.exporting.figure_tables import few_images_warning
from search.exporting.scored_parts import CORRUPTED, TEST_ONLY, gaps
from search.terminal.output import percent


def verdict_lines(metrics: Mapping[str, Any], title: str = "test images") -> list[str]:
    """Return the verdict, one sentence a line.

    Args:
        metrics: Figures by split, as `metrics.json` has them; `test` is required, `validation` may be missing.
        title: What the images under `test` are called.

    Returns:
        Score and accuracy on clean images; the score on corrupted ones if there are any; how validation and test
        differ if `metrics` has both; a warning if a class has few images.
    """
    test = metrics["test"]
    right = round(test["accuracy"] * test["images"])
    accuracy = f"accuracy {percent(test['accuracy'])} ({right:,} of {test['images']:,} right)"
    lines = [f"{title}: macro-F1 {_score(test)}, {accuracy}"]
    if TEST_ONLY in test:
        known = f", {_score(test[CORRUPTED])} under known ones" if CORRUPTED in test else ""
        lines.append(f"corrupted {title}: macro-F1 {_score(test[TEST_ONLY])} under unseen corruptions{known}")
    lines += [_gap_line(gap) for gap in gaps(metrics) if gap["images"] == "clean"]
    return [*lines, warning] if (warning := few_images_warning(test)) else lines


def _score(figures: Mapping[str, Any]) -> str:
    low, high = figures.get("intervals", {}).get("macro_f1", (None, None))
    interval = f" (95 % interval {low:.3f} to {high:.3f})" if low is not None else ""
    return f"{figures['macro_f1']:.3f}{interval}"


def _gap_line(gap: Mapping[str, Any]) -> str:
    low, high = gap["interval"]
    difference = f"validation macro-F1 is {abs(gap['gap']):.3f} {'above' if gap['gap'] >= 0 else 'below'} test"
    if gap["beyond_chance"]:
        return f"the validation score flatters the model: {difference}, beyond chance; expect the test score"
    if high < 0:
        return f"the validation score does not flatter the model: {difference}"
    interval = f"95 % interval of the difference {low:+.3f} to {high:+.3f}"
    return f"the validation score agrees with test within chance: {difference} ({interval})"

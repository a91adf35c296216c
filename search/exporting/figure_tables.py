"""Print the figures of an exported model: scores with 95 % intervals, calibration, and estimates of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from search.exporting.scored_parts import gaps
from search.terminal.output import percent, print_table, with_interval

INTERVALS = ("accuracy", "macro_f1")


MOST_CLASSES = 30
"""Most classes in a table of all; of more, those with the lowest F1 are shown."""
FEW_IMAGES = 20
"""Number of images of a class below which bootstrap intervals are too narrow: a class that is all right or all wrong
stays so in every resample."""


def print_parts(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Print a row per part, then a row per family of corruptions in each part.

    Args:
        parts: Title and figures of each part.
    """
    columns = ("images_of", "images", *INTERVALS, "macro_precision", "macro_recall", "weighted_f1")
    print_table(
        [_row(title, figures) for title, figures in parts],
        columns,
        least=("weighted_f1", *columns[-3:-1], "images", "accuracy"),
    )
    families = [
        _row(title, row) | {"family": name}
        for title, figures in parts
        for name, row in figures.get("families", {}).items()
    ]
    if families:
        print_table(families, ("images_of", "family", "images", *INTERVALS), least=("images", "accuracy"))
    if any("intervals" in figures for _, figures in parts):
        click.echo("In brackets: 95 % intervals, bootstrapped over images, those of a group together.")


def few_images_warning(figures: Mapping[str, Any]) -> str:
    """Return a line if a class has fewer than FEW_IMAGES images; else an empty text."""
    counts = [row["images"] for row in figures.get("per_class", {}).values()]
    fewest = min((count for count in counts if count), default=FEW_IMAGES)
    if fewest >= FEW_IMAGES:
        return ""
    images = "1 image" if fewest == 1 else f"{fewest} images"
    return f"The smallest class has {images}: its intervals, and those of the means, are too narrow."


def _row(title: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {"images_of": title, **figures, **{name: with_interval(figures, name) for name in INTERVALS}}


def worst_classes(per_class: Mapping[str, Any], most: int = MOST_CLASSES) -> dict[str, Any]:
    """Return the figures of all classes in order, or of the `most` with the lowest F1, lowest first, if there are more.

    Classes without images have no F1 to speak of and are left out then.
    """
    if len(per_class) <= most:
        return dict(per_class)
    rows = [(name, row) for name, row in per_class.items() if row["images"]]
    return dict(sorted(rows, key=lambda item: item[1]["f1"])[:most])


def print_classes(figures: Mapping[str, Any]) -> None:
    """Print precision, recall and F1 of each class; of many classes, those with the lowest F1."""
    rows = []
    for name, row in worst_classes(figures["per_class"]).items():
        f1 = with_interval({"f1": row["f1"], "intervals": {"f1": row.get("f1_interval", (None, None))}}, "f1")
        rows.append({"class": name, **row, "f1": f1})
    print_table(rows, ("class", "precision", "recall", "f1", "images"), least=("images", "precision", "recall"))
    if len(rows) < len(figures["per_class"]):
        click.echo(f"The {len(rows)} classes of {len(figures['per_class']):,} with the lowest F1; --json has all.")


def print_gaps(metrics: Mapping[str, Any]) -> None:
    """Print validation minus test macro-F1, with a warning if chance does not explain the gap."""
    for gap in gaps(metrics):
        low, high = gap["interval"]
        interval = f"95 % interval {low:+.4f} to {high:+.4f}"
        click.echo(f"validation less test, {gap['images']}: macro F1 {gap['gap']:+.4f}, {interval}")
        if gap["beyond_chance"]:
            click.echo(
                f"warning: on {gap['images']} images, validation exceeds test by more than chance explains: the trial "
                "was chosen by the validation images; expect the test figures",
                err=True,
            )


def print_operations(operations: Mapping[str, Sequence[str]], decisive: bool = True) -> None:
    """Print the names of the known corruptions, and of the unseen ones that only the test figures use.

    Args:
        operations: Names of corruptions by `validation` (known) and `test` (unseen).
        decisive: Whether the trial was chosen by the known ones.
    """
    if operations:
        by = ", by which the trial was chosen" if decisive else ""
        click.echo(f"known corruptions{by}: {', '.join(operations['validation'])}")
        click.echo(f"unseen ones, never used in training, choosing or calibrating: {', '.join(operations['test'])}")


def print_trust(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Print calibration error and abstention, a row per part that was scored with them.

    Args:
        parts: Title and figures of each part.
    """
    rows = []
    for title, figures in parts:
        if "abstaining" not in figures:
            continue
        row = {
            "images_of": title,
            "calibration_error": figures["calibration_error"],
            "calibrated": figures["calibrated_calibration_error"],
        }
        for one in figures["abstaining"]:
            cells = "never" if one["error"] is None else f"{percent(one['coverage'])} / {percent(one['error'])}"
            row[f"aim {percent(one['target_error'])}"] = cells
        rows.append(row)
    if rows:
        print_table(rows, tuple(rows[0]))
        click.echo(
            "Aim: accepted share of wrong answers. Cells: share of images answered / share of wrong answers among them."
        )


ESTIMATE_TITLES = {
    "estimated_accuracy": "estimated accuracy",
    "thresholded_confidence": "share of confident answers",
    "mean_confidence": "mean calibrated confidence",
}


def print_estimates(estimates: Mapping[str, float], errors: Mapping[str, Any]) -> None:
    """Print the estimates of accuracy, if any, and their errors on test images.

    Args:
        estimates: Estimates by the names of ESTIMATE_TITLES, 0..1.
        errors: Errors as from `estimate_errors`; empty if they were not measured.
    """
    rows = [
        {
            "without labels": title,
            "estimate": estimates.get(name),
            "mean error, points": f"{100 * errors[name]['mean']:.1f}" if errors else None,
            "largest error, points": f"{100 * errors[name]['largest']:.1f}" if errors else None,
        }
        for name, title in ESTIMATE_TITLES.items()
        if estimates or errors
    ]
    if rows:
        print_table(rows, tuple(name for name in rows[0] if name != "estimate" or estimates))
    if errors:
        click.echo(
            f"Errors: mean and largest on the export's {len(errors['blocks'])} blocks of test images, clean and each "
            "family of corruptions."
        )

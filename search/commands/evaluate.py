"""`hpsearch evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from models.formats.registry import FORMATS
from search.terminal.value_range import VALUE_RANGE
from search.workspace import Workspace

SUITES = ("medmnist-c",)


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("data", required=False)
@click.option("--test", "on_test", is_flag=True, help="Score the workspace's locked test set. Each use is recorded.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    help="Score the export in this format, in its own runtime.  [default: keras]",
)
@click.option(
    "--corrupted-views",
    type=click.IntRange(0, 10),
    default=2,
    show_default=True,
    help="Corrupted views to score per labelled image, by known and by unseen corruptions each; 0: none.",
)
@click.option("--suite", type=click.Choice(list(SUITES)), help="Also score a published list of corruptions.")
@click.option("--details", is_flag=True, help="Show all figures: per part, family and class, calibration, abstaining.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all figures, with the confusion matrix.")
@VALUE_RANGE
@click.pass_obj
def evaluate(
    workspace: Workspace,
    model: Path,
    data: str | None,
    on_test: bool,
    format_name: str | None,
    corrupted_views: int,
    suite: str | None,
    details: bool,
    as_json: bool,
    value_range: str | None,
) -> None:
    """Score an exported MODEL (its folder) on images. DATA is an .npz file, a folder per class, or a table.

    \b
    hpsearch evaluate my-model new-cells.npz
    hpsearch evaluate my-model --test --suite medmnist-c
    hpsearch evaluate my-model --test --format onnx

    Without labels (an .npz file without `labels`, a folder of pictures, a table of paths alone), the accuracy is
    estimated. Images of another size are cropped to the middle and resized, as in training. If DATA holds images of the
    workspace's locked test set, this is a reading of that set, and counted.
    """
    from search.evaluating.evaluation import count_reading, score_data, score_test, show_estimate, show_scores
    from search.evaluating.exported_model import open_export
    from search.evaluating.inputs import has_labels
    from search.evaluating.known_images import LOCKED, known_images
    from search.evaluating.suites import print_suite, run_suite
    from search.terminal.output import print_json

    _check_arguments(model, data, on_test)
    if data is not None and not has_labels(data):
        if suite:
            raise click.BadParameter(f"{suite} needs labels, and {data} has none", param_hint="--suite")
        show_estimate(open_export(model, format_name), Path(data), as_json, value_range)
        return
    exported = open_export(model, format_name)
    if data is None:
        scores, images, labels = score_test(workspace, exported)
    else:
        scores, images, labels = score_data(exported, data, corrupted_views, value_range)
        scores["known_images"] = known_images(workspace, exported, images)
    if suite:
        scores["suites"] = {suite: run_suite(suite, exported.predict, images, labels)}
    locked = len(images) if on_test else scores["known_images"].get(LOCKED, 0)
    command = "evaluate --test" if on_test else "evaluate"
    reading = count_reading(workspace, exported, scores, command) if locked else None
    if as_json:
        print_json(scores | ({"reading": reading} if reading else {}))
        return
    show_scores(exported, scores, "test images" if on_test else str(data), details)
    if suite:
        print_suite(suite, scores["suites"][suite])
    if reading:
        some = "" if on_test else f", {locked:,} images of which are among these"
        click.echo(f"reading {reading} of the locked test set of {workspace.folder}{some}")


def _check_arguments(model: Path, data: str | None, on_test: bool) -> None:
    """Raise UsageError for arguments that exclude each other, and DataError if DATA does not exist."""
    from data_prep.sources.registry import find_source

    if on_test == (data is not None):
        raise click.UsageError("give either DATA or --test")
    if on_test and model.is_file() and model.name not in (files := [row.file for row in FORMATS.values()]):
        raise click.BadParameter(
            f"--test scores an export as it is, its {', '.join(files)}; got {model}", param_hint="MODEL"
        )
    if data is not None:
        find_source(data)

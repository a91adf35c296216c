"""`hpsearch evaluate`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np

from models.formats.registry import FORMATS
from search.errors import SearchError
from search.evaluating.corrupted_inputs import scored_data
from search.evaluating.exported_model import ExportedModel, open_export
from search.evaluating.inputs import KINDS, VALUE_RANGE, chunks, has_labels, labelled_images
from search.evaluating.known_images import LOCKED, known_images, warning_of
from search.evaluating.suites import SUITES, print_suite, run_suite
from search.exporting.figure_tables import print_classes, print_estimates, print_parts, print_trust
from search.exporting.scored_parts import figures_of, parts_in, score_split
from search.exporting.verdict import verdict_lines
from search.terminal.output import print_json
from search.terminal.progress_bars import Stages
from search.workspace import Workspace

FEW_IMAGES = 100  # below, one image moves an estimate by more than a point


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
    _check_arguments(model, data, on_test)
    if data is not None and not has_labels(data):
        if suite:
            raise click.BadParameter(f"{suite} needs labels, and {data} has none", param_hint="--suite")
        _estimate(open_export(model, format_name), Path(data), as_json, value_range)
        return
    exported = open_export(model, format_name)
    if data is None:
        scores, images, labels = _score_test(workspace, exported)
    else:
        scores, images, labels = _score_data(exported, data, corrupted_views, value_range)
        scores["known_images"] = known_images(workspace, exported, images)
    if suite:
        scores["suites"] = {suite: run_suite(suite, exported.predict, images, labels)}
    locked = len(images) if on_test else scores["known_images"].get(LOCKED, 0)
    reading = _count(workspace, exported, scores, "evaluate --test" if on_test else "evaluate") if locked else None
    if as_json:
        print_json(scores | ({"reading": reading} if reading else {}))
        return
    _show(exported, scores, "test images" if on_test else str(data), details)
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


def _score_data(
    exported: ExportedModel, data: str, corrupted_views: int, value_range: str | None
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return the figures of the labelled images in DATA, clean and corrupted, the images and their labels."""
    with Stages() as stages:
        found = labelled_images(data, exported.class_names, exported.image_shape, stages, value_range)
        parts = scored_data(exported.predict, found, corrupted_views, stages)
    return figures_of(parts, exported.class_names, exported.trust), found.images, found.labels


def _score_test(workspace: Workspace, exported: ExportedModel) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return the figures of the locked test set, clean and corrupted, its images and labels."""
    from data_prep.storage.reader import PreparedSet

    prepared = PreparedSet.open(workspace.prepared)
    own = exported.facts().get("fingerprint")
    if own != prepared.fingerprint:
        raise SearchError(
            f"the model was trained on the prepared set {str(own)[:8]}, the workspace {workspace.folder} holds "
            f"{prepared.fingerprint[:8]}: its test images may be among the model's training images"
        )
    if prepared.image_shape != exported.image_shape:
        raise SearchError(f"the model takes images of {exported.image_shape}, the test set has {prepared.image_shape}")

    def predict(files: Sequence[Path]) -> list[np.ndarray]:
        return [exported.predict(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files]

    scores = figures_of(score_split(prepared, "test", predict), exported.class_names, exported.trust)
    return scores, prepared.images("test"), prepared.labels("test")


def _count(workspace: Workspace, exported: ExportedModel, scores: dict[str, Any], command: str) -> int:
    from search.exporting.locked_test import add_reading

    facts: dict[str, Any] = {}
    with suppress(SearchError):  # an export may have lost what it says of itself
        facts = exported.facts()
    what = {"study": facts.get("study"), "trial": facts.get("trial"), "model": str(exported.folder)}
    what |= {"format": exported.format, "sha256": _sha256(exported.file)[:16]}
    return add_reading(workspace, command, what, scores)


def _sha256(path: Path) -> str:
    """Return the hash of a file's bytes, or of a folder's files in the order of their paths."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _show(exported: ExportedModel, scores: dict[str, Any], title: str, details: bool) -> None:
    validation = {}
    if title == "test images":
        with suppress(SearchError):  # an export may have lost its figures
            validation = {key: exported.facts().get(key) for key in ("validation", "refit")}
    for line in verdict_lines({"test": scores} | validation, title):
        click.echo(line)
    if warning := warning_of(scores.get("known_images", {}), scores["images"]):
        click.echo(warning, err=True)
    if not details:
        click.echo("Figures per class and family, calibration and abstaining: --details")
        return
    rows = [(part.title.replace("test", title, 1), figures) for part, figures in parts_in({"test": scores})]
    print_parts(rows)
    print_classes(scores)
    print_trust(rows)


def _estimate(exported: ExportedModel, data: Path, as_json: bool, value_range: str | None) -> None:
    """Print the accuracy estimated without labels, with the errors of such estimates on test images."""
    trust = exported.known_trust()
    found, reasons = [], dict[str, str]()
    with Stages() as stages:
        for chunk in chunks(data, exported.image_shape, stages, value_range):
            reasons |= chunk.reasons
            if len(chunk.images):
                found.append(exported.predict(chunk.images))
    for name, reason in reasons.items():
        click.echo(f"left out {name}: {reason}", err=True)
    if not found:
        raise SearchError(f"{data} has no readable images: give {KINDS}")
    probabilities = np.concatenate(found)
    estimates = trust.estimates(probabilities)
    if as_json:
        print_json({"images": len(probabilities), **estimates, "estimate_errors": exported.estimate_errors})
        return
    click.echo(f"{len(probabilities):,} images without labels")
    print_estimates(estimates, exported.estimate_errors)
    click.echo("The estimated accuracy takes the classes to be about as frequent here as among the validation images.")
    if len(probabilities) < FEW_IMAGES:
        click.echo(f"With fewer than {FEW_IMAGES} images, estimates are rougher still, that of the accuracy too low.")

"""Score an exported model on labelled images, or estimate its accuracy on images without labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np

from data_prep.storage.reader import PreparedSet
from search.errors import SearchError
from search.evaluating.corrupted_inputs import scored_data
from search.evaluating.exported_model import ExportedModel
from search.evaluating.inputs import KINDS, chunks, labelled_images
from search.evaluating.known_images import warning_of
from search.exporting.figure_tables import print_classes, print_estimates, print_parts, print_trust
from search.exporting.locked_test import add_reading, check_recordable
from search.exporting.scored_parts import figures_of, parts_in, score_split
from search.exporting.verdict import verdict_lines
from search.terminal.output import print_json
from search.terminal.progress_bars import Stages
from search.workspace import Workspace

FEW_IMAGES = 100  # below, one image moves an estimate by more than a point


def score_data(
    exported: ExportedModel, data: str, corrupted_views: int, value_range: str | None
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return the figures of the labelled images in DATA, clean and corrupted, the images and their labels."""
    with Stages() as stages:
        found = labelled_images(data, exported.class_names, exported.image_shape, stages, value_range)
        parts = scored_data(exported.predict, found, corrupted_views, stages)
    return figures_of(parts, exported.class_names, exported.trust), found.images, found.labels


def score_test(workspace: Workspace, exported: ExportedModel) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return the figures of the locked test set, clean and corrupted, its images and labels."""
    prepared = PreparedSet.open(workspace.prepared)
    own = exported.facts().get("fingerprint")
    if own != prepared.fingerprint:
        raise SearchError(
            f"the model was trained on the prepared set {str(own)[:8]}, the workspace {workspace.folder} holds "
            f"{prepared.fingerprint[:8]}: its test images may be among the model's training images"
        )
    if prepared.image_shape != exported.image_shape:
        raise SearchError(f"the model takes images of {exported.image_shape}, the test set has {prepared.image_shape}")
    check_recordable(workspace)

    def predict(files: Sequence[Path]) -> list[np.ndarray]:
        return [exported.predict(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files]

    scores = figures_of(score_split(prepared, "test", predict), exported.class_names, exported.trust)
    return scores, prepared.images("test"), prepared.labels("test")


def count_reading(workspace: Workspace, exported: ExportedModel, scores: dict[str, Any], command: str) -> int:
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


def show_scores(exported: ExportedModel, scores: dict[str, Any], title: str, details: bool) -> None:
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


def show_estimate(exported: ExportedModel, data: Path, as_json: bool, value_range: str | None) -> None:
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

"""`hpsearch evaluate`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from search.errors import SearchError
from search.exporting import LABELS_FILE, METRICS_FILE, MODEL_FILE
from search.output import print_json, print_table
from search.quiet import import_keras
from search.workspace import Workspace

SHOWN = ("images", "accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1")


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("data", required=False)
@click.option("--test", "on_test", is_flag=True, help="Score the workspace's locked test set; the reading is counted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: per class and the confusion matrix too.")
@click.pass_obj
def evaluate(workspace: Workspace, model: Path, data: str | None, on_test: bool, as_json: bool) -> None:
    """Score an exported MODEL (its folder) on labelled images: DATA is an .npz file or a folder per class.

    \b
    hpsearch evaluate my-model new-cells.npz
    hpsearch evaluate my-model --test
    """
    if on_test == (data is not None):
        raise click.UsageError("give either DATA or --test")
    import_keras()
    from models.export import load_model
    from models.reporting import full_figures
    from models.training import predict

    folder, file = (model, model / MODEL_FILE) if model.is_dir() else (model.parent, model)
    names = read_labels(folder)
    network, shape = load_model(file)
    if on_test and file.name != MODEL_FILE:
        raise click.BadParameter(f"--test scores an export as it is, its {MODEL_FILE}; got {file}", param_hint="MODEL")
    images, labels = _test_set(workspace, folder, shape) if on_test else labelled_images(str(data), names, shape)
    scores = full_figures(labels, predict(network, images), names)
    if on_test:
        reading = _count(workspace, folder, scores)
    if as_json:
        print_json(scores)
        return
    print_table([scores], SHOWN)
    print_table([{"class": name, **row} for name, row in scores["per_class"].items()],
                ("class", "precision", "recall", "f1", "images"))  # fmt: skip
    if on_test:
        click.echo(f"reading {reading} of the locked test set of {workspace.folder}")


def read_labels(folder: Path) -> tuple[str, ...]:
    """The class names of an exported model. SearchError when the folder is no export."""
    try:
        return tuple(json.loads((folder / LABELS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SearchError(f"{folder} is no exported model: its {LABELS_FILE} cannot be read") from error


def _test_set(workspace: Workspace, folder: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    from data_prep.prepared import PreparedSet

    prepared = PreparedSet.open(workspace.prepared)
    own = _facts(folder).get("fingerprint")
    if own != prepared.fingerprint:
        raise SearchError(
            f"the model was trained on the prepared set {str(own)[:8]}, the workspace {workspace.folder} holds "
            f"{prepared.fingerprint[:8]}: its test images may be among the model's training images"
        )
    if prepared.image_shape != shape:
        raise SearchError(f"the model takes images of {shape}, the test set has {prepared.image_shape}")
    return prepared.images("test"), prepared.labels("test")


def labelled_images(data: str, names: tuple[str, ...], shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the model's own class order."""
    from data_prep.sources import read_source

    found = read_source(data, shape[0])
    if tuple(found.images.shape[1:]) != shape:
        raise SearchError(f"the model takes images of {shape}, {data} has {tuple(found.images.shape[1:])}")
    # By name where the model knows all of them; otherwise number k of a numbered file is the model's class k.
    by_name = set(found.class_names) <= set(names)
    numbered = found.class_names == tuple(str(number) for number in range(len(found.class_names)))
    if not by_name and not (numbered and len(found.class_names) <= len(names)):
        stranger = found.class_names[-1] if numbered else min(set(found.class_names) - set(names))
        raise SearchError(f"{data} has the class {stranger!r}, and the model knows {', '.join(names)} alone")
    order = np.array([names.index(name) for name in found.class_names] if by_name else range(len(names)))
    for row in found.unreadable:
        click.echo(f"left out {row.name}: {row.reason}", err=True)
    return found.images, order[found.labels]


def _count(workspace: Workspace, folder: Path, scores: dict[str, Any]) -> int:
    from search.readings import add_reading

    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()[:16]
    facts = _facts(folder)
    what = {"study": facts.get("study"), "trial": facts.get("trial"), "model": str(folder), "sha256": digest}
    return add_reading(workspace, "evaluate --test", what, scores)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SearchError(f"{folder} is no exported model: its {METRICS_FILE} cannot be read") from error
    return facts

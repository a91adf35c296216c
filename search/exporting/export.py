"""Export the winner as a folder with model, labels, figures and model card.

The model is checked by reloading it. The folder is written whole or not at all.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep.storage.reader import PreparedSet
from models.formats.registry import FORMATS, KERAS
from models.scoring.objectives import external_name
from search.engine.keras_import import import_keras
from search.exporting.figure_tables import few_images_warning, worst_classes
from search.exporting.format_files import write_formats
from search.exporting.locked_test import add_reading, check_recordable, earlier_reading, readings
from search.exporting.scored_parts import (
    EXTERNAL,
    estimate_errors,
    families_in,
    figures_of,
    fit_on,
    gaps,
    operations,
    parts_in,
    score_split,
)
from search.exporting.variants import Candidate, Chooser, ExportExtras, identity
from search.terminal.output import counted
from search.winners.best_trial import Winner
from search.winners.refit import refit_facts
from search.workspace import Workspace

MODEL_FILE, LABELS_FILE, METRICS_FILE, CARD_FILE = FORMATS[KERAS].file, "labels.json", "metrics.json", "README.md"
CALIBRATION_FILE = "calibration.json"
"""File with the fields of `models.scoring.trust.Trust` and with `estimate_errors`, the errors of its accuracy estimates
on test images."""
VERSIONS = ("hpsearch", "keras", "tensorflow", "numpy", "optuna", "scikit-learn")


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    folder: Path
    winner: Winner
    difference: float
    """Largest difference between a validation probability of the reloaded model and the one stored in training."""
    metrics: dict[str, Any]
    """Figures by split, and facts on how the model was chosen and written, as in metrics.json."""
    reading: int | None
    """Number of this reading of the test set; None if the figures of an earlier reading were used."""
    replaced: str = ""
    """The trial whose export stood at the same place before, as text; empty if none did or it was the same trial."""


def export(
    workspace: Workspace,
    prepared: PreparedSet,
    winner: Winner,
    target: Path,
    extras: ExportExtras | None = None,
    formats: Sequence[str] = (),
) -> Exported:
    """Write the export to the folder `target`, replacing an earlier one.

    Args:
        extras: Variants to try besides the winner, and whether to refit.
        formats: Names of further formats to write the model in.

    Raises:
        SearchError: The reloaded model's validation probabilities differ by more than AGREEMENT from those that the
            training process stored. The test set has not been read then.
        ModelError: The model cannot be written in a format, or gives other probabilities in it. The test set has not
            been read then.
    """
    if extras and extras.refit:
        with workspace.exporting():
            extras.refit(winner)  # cached, and done before this process takes GPU memory that training needs
    import_keras()
    target.parent.mkdir(parents=True, exist_ok=True)
    with workspace.exporting(), _scratch(target) as scratch:
        chooser = Chooser(workspace, prepared, scratch)
        chosen, tried = chooser.choose(winner, extras or ExportExtras())
        chosen, tried, refit = _refitted(chooser, chosen, tried, extras)
        folder = scratch / "model"
        folder.mkdir()
        chosen = replace(chosen, file=chosen.file.rename(folder / MODEL_FILE))
        written = write_formats(formats, chosen, prepared, folder)
        metrics, reading = _metrics(chooser, winner, chosen)
        metrics |= {"tried": tried, "formats": written, "test_readings": len(readings(workspace))} | refit
        _write_texts(folder, prepared, winner, metrics, chosen)
        replaced = _other_trial_at(target, winner)
        _replace(folder, target)
    return Exported(target, winner, chosen.difference, metrics, reading, replaced)


def _refitted(
    chooser: Chooser, chosen: Candidate, tried: list[dict[str, Any]], extras: ExportExtras | None
) -> tuple[Candidate, list[dict[str, Any]], dict[str, Any]]:
    """Return the model to export, the rows of the table and the facts of a refit; without a refit, nothing changes."""
    if not (extras and extras.refit):
        return chosen, tried, {}
    refit = chooser.refitted(chosen, extras.refit)
    rows = [row | {"kept": "refitted" if row["kept"] == "yes" else "no"} for row in tried]
    rows.append({"model": refit.variant.title, "clean": None, "corrupted": None, "kept": "yes"})
    return refit, rows, {"refit": refit_facts(chooser.prepared, refit.variant.members)}


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target, so that it can be renamed to it. Remove what killed exports left there."""
    prefix = f".{target.name}.export-"
    for leftover in target.parent.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as temporary:
        yield Path(temporary)


def _metrics(chooser: Chooser, winner: Winner, chosen: Candidate) -> tuple[dict[str, Any], int | None]:
    """Return validation, external and test figures, and the number of this test reading.

    The test set is read once per model. Later exports use the stored figures, without a number.
    """
    from models.scoring.export_figures import full_figures

    workspace, prepared = chooser.workspace, chooser.prepared
    names = prepared.class_names
    trust = fit_on(chosen.validation)
    external = score_split(prepared, EXTERNAL, lambda files: chooser.predict(chosen.file, files))
    metrics = {
        "validation": figures_of(chosen.validation, names, trust),
        "external": {name: full_figures(scored, names, trust) for name, scored in external.items()},
        "calibration": trust.as_dict(),
        "corruptions": operations(prepared),
    }
    weights_sha256 = identity(workspace, chosen.variant)
    earlier = earlier_reading(workspace, weights_sha256)
    if earlier is not None:
        return metrics | {"test": earlier}, None
    check_recordable(workspace)
    test = figures_of(score_split(prepared, "test", lambda files: chooser.predict(chosen.file, files)), names, trust)
    what = {"study": winner.settings.name, "trial": winner.record.number, "weights_sha256": weights_sha256}
    what |= {"refit": True} if chosen.variant.is_refitted else {}
    reading = add_reading(workspace, "export-best", what, test)
    return metrics | {"test": test}, reading


def _write_texts(
    folder: Path, prepared: PreparedSet, winner: Winner, metrics: dict[str, Any], chosen: Candidate
) -> None:
    from models.scoring.confusion_picture import draw_confusion

    names = prepared.class_names
    (folder / LABELS_FILE).write_text(json.dumps(list(names), ensure_ascii=False, indent=1), encoding="utf-8")
    facts = {
        "study": winner.settings.name,
        "trial": winner.record.number,
        "fingerprint": prepared.fingerprint,
        "objective": winner.settings.objective,
        "value": winner.record.value,
        "picked": winner.picked,
        "hyperparameters": winner.record.hyperparameters,
        "model": chosen.variant.title,
        "largest_difference_after_reloading": chosen.difference,
    }
    text = json.dumps(facts | metrics, ensure_ascii=False, indent=1)
    (folder / METRICS_FILE).write_text(text, encoding="utf-8")
    calibration = metrics["calibration"] | {"estimate_errors": estimate_errors(metrics["test"])}
    (folder / CALIBRATION_FILE).write_text(json.dumps(calibration, ensure_ascii=False, indent=1), encoding="utf-8")
    for split in ("validation", "test"):
        title = f"{split}: {metrics[split]['images']} images"
        draw_confusion(metrics[split]["confusion_matrix"], names, title, folder / f"confusion_{split}.png")
    (folder / CARD_FILE).write_text(model_card(prepared, winner, metrics, chosen), encoding="utf-8")


def model_card(prepared: PreparedSet, winner: Winner, metrics: dict[str, Any], chosen: Candidate) -> str:
    """Return the text of the export's README.md."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("search", "exporting"), keep_trailing_newline=True)
    height, width, _ = prepared.image_shape
    return environment.get_template("model_card.md").render(
        settings=winner.settings,
        decisive=external_name(winner.settings.objective),
        record=winner.record,
        metrics=metrics,
        worst=worst_classes(metrics["test"]["per_class"]),
        parts=parts_in(metrics),
        families=families_in(metrics),
        gaps=gaps(metrics),
        estimate_errors=estimate_errors(metrics["test"]),
        readings=counted(metrics["test_readings"], "time"),
        few_images=few_images_warning(metrics["test"]),
        difference=chosen.difference,
        picked=winner.picked,
        variant=chosen.variant,
        class_names=prepared.class_names,
        source=prepared.source,
        size=f"{height}x{width}",
        formats=[(FORMATS[name], row) for name, row in metrics["formats"].items() if FORMATS[name].write],
        versions={name: version(name) for name in VERSIONS},
        needed_keras=metrics["formats"][KERAS]["needs"],
    )


def _other_trial_at(target: Path, winner: Winner) -> str:
    """Return the trial whose export stands at `target`, as text; empty if there is none or it is the winner."""
    try:
        facts = json.loads((target / METRICS_FILE).read_text(encoding="utf-8"))
        there = (facts["study"], facts["trial"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return "" if there == (winner.settings.name, winner.record.number) else f"trial {there[1]} of {there[0]}"


def _replace(folder: Path, target: Path) -> None:
    """Move the finished folder into place after flushing its files to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)

"""The winner as a folder that proves itself: model, labels, figures, model card; written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna import Study
from optuna.storages import RDBStorage

from data_prep.prepared import PreparedSet
from search.errors import SearchError
from search.job import CORRUPTED_FILE, PROBABILITIES_FILE, WEIGHTS_FILE, trial_folder
from search.quiet import import_keras
from search.readings import add_reading, earlier_reading
from search.scored_parts import (
    CORRUPTED,
    Predict,
    estimate_errors,
    families_in,
    figures_of,
    fit_on,
    gaps,
    operations,
    parts_in,
    score_split,
)
from search.workspace import Workspace
from studies.records import TrialRecord, best_record, records_of
from studies.retrainings import repeated, retrainings_of
from studies.settings import StudySettings, stored_settings
from studies.storage import existing_storage, load_study, study_names

if TYPE_CHECKING:
    from models.reporting import Scored

AGREEMENT = 1e-4
"""Largest difference between a probability of the reloaded model and the one the worker stored."""
MODEL_FILE, LABELS_FILE, METRICS_FILE, CARD_FILE = "model.keras", "labels.json", "metrics.json", "README.md"
CALIBRATION_FILE = "calibration.json"
"""What `models.trust.Trust` holds, and `estimate_errors`: what its estimates of accuracy were off by on test images."""
VERSIONS = ("hpsearch", "keras", "tensorflow", "numpy", "optuna", "scikit-learn")


@dataclass(frozen=True)
class Winner:
    """The best trial of the studies on the prepared set, of one backbone or of all."""

    settings: StudySettings
    record: TrialRecord
    confirmed: float | None = None
    """Its mean objective over other seeds, where it was trained again on some."""

    @property
    def value(self) -> float:
        """What it is compared by with the best of other studies."""
        return self.confirmed if self.confirmed is not None else self.record.value or 0.0


@dataclass(frozen=True)
class Exported:
    """What an export ended with."""

    folder: Path
    winner: Winner
    difference: float
    """Largest difference between two probabilities of one validation image."""
    metrics: dict[str, Any]
    reading: int | None
    """Which reading of the test set this was; None when the stored figures were shown."""


def find_winner(workspace: Workspace, prepared: PreparedSet, backbone: str | None) -> Winner:
    """SearchError when no trial on this prepared set is complete, naming what there is instead."""
    storage = existing_storage(workspace.database)
    studies = [load_study(storage, name) for name in study_names(storage)]
    winners, others = [], []
    for study in studies:
        settings = stored_settings(study)
        if backbone and settings.backbone != backbone:
            continue
        if settings.fingerprint != prepared.fingerprint:
            others.append(study.study_name)
        elif best := best_of(storage, study):
            winners.append(best)
    if not winners:
        hint = f" (on an earlier preparation: {', '.join(others)})" if others else ""
        wanted = backbone or "NAME"
        raise SearchError(f"no finished trial to export{hint}: run `hpsearch run --backbone {wanted}` first")
    return max(winners, key=lambda winner: winner.value)


def best_of(storage: RDBStorage, study: Study) -> Winner | None:
    """The trial with the best mean over other seeds, where any was trained again; else the best one of the search.

    The best of many is also the luckiest, so that its value in the search is no fair one.
    """
    settings, records = stored_settings(study), records_of(study)
    by_number = {record.number: record for record in records}
    for again in repeated(retrainings_of(storage, settings.name), settings.objective):
        return Winner(settings, by_number[again.trial], again.mean)
    best = best_record(records)
    return Winner(settings, best) if best else None


def export(workspace: Workspace, prepared: PreparedSet, winner: Winner, target: Path) -> Exported:
    """Writes the folder `target`, replacing an earlier one.

    Raises SearchError when the reloaded model does not give the worker's validation probabilities within AGREEMENT.
    """
    import_keras()
    from models.backbones import backbone_named
    from models.classifier import ClassifierSettings
    from models.export import predict_in_fresh_process, save_model

    settings, record = winner.settings, winner.record
    stored = trial_folder(workspace.trials, settings.name, record.number)
    network = ClassifierSettings(
        backbone_named(settings.backbone), settings.weights, prepared.image_shape, len(prepared.class_names)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        save_model(network, record.hyperparameters["dropout"], stored / WEIGHTS_FILE, folder / MODEL_FILE)

        def predict(files: Sequence[Path]) -> list[np.ndarray]:
            return predict_in_fresh_process(folder / MODEL_FILE, files, Path(temporary))

        validation = score_split(prepared, "validation", predict)
        difference = _difference(validation, stored)
        if not difference <= AGREEMENT:
            raise SearchError(
                f"the reloaded model differs from the trained one by {difference:.2g} in a probability, more than "
                f"{AGREEMENT}: nothing was exported; this is a bug of hpsearch or a damaged file in {stored}"
            )
        weights_sha256 = hashlib.sha256((stored / WEIGHTS_FILE).read_bytes()).hexdigest()
        metrics, reading = _metrics(workspace, prepared, winner, weights_sha256, validation, predict)
        _write_texts(folder, prepared, winner, metrics, difference)
        _replace(folder, target)
    return Exported(target, winner, difference, metrics, reading)


def _difference(validation: Mapping[str, Scored], stored: Path) -> float:
    """The largest between a probability of the reloaded model and the worker's; studies of before kept clean ones."""
    files = {"": stored / PROBABILITIES_FILE, CORRUPTED: stored / CORRUPTED_FILE}
    pairs = [(validation[key], file) for key, file in files.items() if key in validation and (not key or file.exists())]
    return float(np.max([np.abs(scored.probabilities - np.load(file)).max() for scored, file in pairs]))


def _metrics(
    workspace: Workspace,
    prepared: PreparedSet,
    winner: Winner,
    weights_sha256: str,
    validation: Mapping[str, Scored],
    predict: Predict,
) -> tuple[dict[str, Any], int | None]:
    """Validation and test figures; the test set is read once per trial, and its stored figures shown after that."""
    names, study, trial = prepared.class_names, winner.settings.name, winner.record.number
    trust = fit_on(validation)
    metrics = {
        "validation": figures_of(validation, names, trust),
        "calibration": trust.as_dict(),
        "corruptions": operations(prepared),
    }
    earlier = earlier_reading(workspace, weights_sha256)
    if earlier is not None:
        return metrics | {"test": earlier}, None
    test = figures_of(score_split(prepared, "test", predict), names, trust)
    what = {"study": study, "trial": trial, "weights_sha256": weights_sha256}
    reading = add_reading(workspace, "export-best", what, test)
    return metrics | {"test": test}, reading


def _write_texts(
    folder: Path, prepared: PreparedSet, winner: Winner, metrics: dict[str, Any], difference: float
) -> None:
    from models.reporting import draw_confusion

    names = prepared.class_names
    (folder / LABELS_FILE).write_text(json.dumps(list(names), ensure_ascii=False, indent=1), encoding="utf-8")
    facts = {
        "study": winner.settings.name,
        "trial": winner.record.number,
        "fingerprint": prepared.fingerprint,
        "objective": winner.settings.objective,
        "value": winner.record.value,
        "hyperparameters": winner.record.hyperparameters,
        "largest_difference_after_reloading": difference,
    }
    text = json.dumps(facts | metrics, ensure_ascii=False, indent=1)
    (folder / METRICS_FILE).write_text(text, encoding="utf-8")
    calibration = metrics["calibration"] | {"estimate_errors": estimate_errors(metrics["test"])}
    (folder / CALIBRATION_FILE).write_text(json.dumps(calibration, ensure_ascii=False, indent=1), encoding="utf-8")
    for split in ("validation", "test"):
        title = f"{split}: {metrics[split]['images']} images"
        draw_confusion(metrics[split]["confusion_matrix"], names, title, folder / f"confusion_{split}.png")
    (folder / CARD_FILE).write_text(model_card(prepared, winner, metrics, difference), encoding="utf-8")


def model_card(prepared: PreparedSet, winner: Winner, metrics: dict[str, Any], difference: float) -> str:
    """The export's README.md."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("search", "templates"), keep_trailing_newline=True)
    height, width, _ = prepared.image_shape
    return environment.get_template("model_card.md").render(
        settings=winner.settings,
        record=winner.record,
        metrics=metrics,
        parts=parts_in(metrics),
        families=families_in(metrics),
        gaps=gaps(metrics),
        estimate_errors=estimate_errors(metrics["test"]),
        difference=difference,
        class_names=prepared.class_names,
        source=prepared.source,
        size=f"{height}x{width}",
        versions={name: version(name) for name in VERSIONS},
    )


def _replace(folder: Path, target: Path) -> None:
    """Moves the finished folder into place, on disk before it is there."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)

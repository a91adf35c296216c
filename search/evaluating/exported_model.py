"""Open an exported model for use: the network, its class names and its calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.augmentation.quiet_import import without_stderr
from models.formats.conversion import open_format
from models.formats.registry import FORMATS, KERAS, Format
from models.scoring.trust import Trust
from search.engine.keras_import import import_keras
from search.errors import SearchError
from search.exporting.export import CALIBRATION_FILE, LABELS_FILE, METRICS_FILE
from search.exporting.scored_parts import parts_in


@dataclass(frozen=True)
class ExportedModel:
    """A model read from the folder of an export.

    Attributes:
        folder: Folder of the export.
        file: Model in that folder: a file, or a folder in some formats.
        format: Name of its format in models.formats.registry.
        answer: uint8 (n, h, w, 3) -> raw probabilities float32 (n, classes), by the format's own runtime.
        image_shape: Shape (h, w, 3) of the uint8 images that it takes.
        class_names: Names of the classes, by label.
        trust: Temperature and thresholds; None in exports of versions that had none.
        estimate_errors: Errors of its estimates of accuracy on test images; empty if they were not measured.
    """

    folder: Path
    file: Path
    format: str
    answer: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    trust: Trust | None
    estimate_errors: dict[str, Any]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return raw probabilities float32 (k, classes) for uint8 images (..., h, w, 3), all views in order."""
        return self.answer(images.reshape(-1, *self.image_shape))

    def facts(self) -> dict[str, Any]:
        """Return the content of its metrics.json.

        Raises:
            SearchError: The file cannot be read.
        """
        content: dict[str, Any] = _read(self.folder, METRICS_FILE)
        return content

    def measured_abstaining(self, target_error: float) -> list[tuple[str, dict[str, Any]]]:
        """Return how abstaining did at export, for each part of the test images.

        Args:
            target_error: Share of wrong answers that the threshold aims at, 0..1.

        Returns:
            The title of each part, with a row that has the `coverage` and `error` of the answers.
        """
        return [
            (part.title, row)
            for part, figures in parts_in({"test": self.facts().get("test")})
            for row in figures.get("abstaining", [])
            if row["target_error"] == target_error
        ]

    def known_trust(self) -> Trust:
        """Return temperature and thresholds.

        Raises:
            SearchError: The export has none.
        """
        if self.trust is None:
            raise SearchError(f"{self.folder} has no {CALIBRATION_FILE}: export the trial again with this version")
        return self.trust


def open_export(model: Path, format_name: str | None = None) -> ExportedModel:
    """Open a folder that `export-best` wrote, or a model file in one.

    Args:
        model: The folder, a `.keras` file with any name in it, or another format's file under its own name.
        format_name: Format to open from the folder; None for the Keras model.

    Raises:
        SearchError: It is not an export, or it lacks the format.
        ModelError: The format's runtime does not open the model.
    """
    folder, file, row = _chosen(model, format_name)
    names = tuple(_read(folder, LABELS_FILE))
    if not file.exists():
        again = f" with --format {row.name}" if row.write else ""
        raise SearchError(f"{folder} has no {file.name}: export the trial again{again}")
    calibration = _read(folder, CALIBRATION_FILE) if (folder / CALIBRATION_FILE).is_file() else {}
    trust = Trust.from_dict(calibration) if calibration else None
    answer, shape = _opened(row, file)
    return ExportedModel(folder, file, row.name, answer, shape, names, trust, calibration.get("estimate_errors", {}))


def _chosen(model: Path, format_name: str | None) -> tuple[Path, Path, Format]:
    """Return the export's folder, the model in it, and its format."""
    by_name = next((row for row in FORMATS.values() if row.file == model.name), None)
    if model.is_dir() and (not by_name or (model / LABELS_FILE).is_file()):
        row = FORMATS[format_name or KERAS]
        return model, model / row.file, row
    own = by_name or FORMATS[KERAS]
    if format_name not in (None, own.name):
        raise SearchError(f"{model} is {own.title}, not {FORMATS[format_name].title}: give the export's folder")
    return model.parent, model, own


def _opened(row: Format, file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[int, int, int]]:
    if row.name == KERAS:
        import_keras()
        from models.formats.keras_file import load_model
        from models.networks.predicting import predict

        network, shape = load_model(file)
        return partial(predict, network), shape
    with without_stderr():
        runtime = open_format(row, file)
    height, width, channels = runtime.image_shape
    return runtime.predict, (height, width, channels)


def _read(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SearchError(f"{folder} is not an exported model: cannot read its {name}") from error

"""An exported model opened for use: the network, its class names, and what the export knows of its answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.trust import Trust
from search.errors import SearchError
from search.exporting import CALIBRATION_FILE, LABELS_FILE, METRICS_FILE, MODEL_FILE
from search.quiet import import_keras
from search.scored_parts import parts_in


@dataclass(frozen=True)
class ExportedModel:
    """Read from the folder of an export.

    Attributes:
        folder: of the export.
        file: the Keras model in it.
        network: what Keras made of it.
        image_shape: (h, w, 3) of the uint8 images it takes.
        class_names: by label.
        trust: temperature and thresholds; None in exports made before there were any.
        estimate_errors: what estimates of accuracy were off by on test images; empty where that was not measured.
    """

    folder: Path
    file: Path
    network: Any
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    trust: Trust | None
    estimate_errors: dict[str, Any]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Raw probabilities float32 (k, classes) of uint8 images (..., h, w, 3), all views in order."""
        from models.predicting import predict

        return predict(self.network, images.reshape(-1, *self.image_shape))

    def facts(self) -> dict[str, Any]:
        """Its metrics.json. SearchError when it cannot be read."""
        content: dict[str, Any] = _read(self.folder, METRICS_FILE)
        return content

    def measured_abstaining(self, target_error: float) -> list[tuple[str, dict[str, Any]]]:
        """Title, and coverage and error of answers for this target, of each part of the test images at export."""
        return [
            (part.title, row)
            for part, figures in parts_in({"test": self.facts().get("test")})
            for row in figures.get("abstaining", [])
            if row["target_error"] == target_error
        ]

    def known_trust(self) -> Trust:
        """SearchError where the export has none."""
        if self.trust is None:
            raise SearchError(f"{self.folder} has no {CALIBRATION_FILE}: export the trial again with this version")
        return self.trust


def open_export(model: Path) -> ExportedModel:
    """Opens a folder that `export-best` wrote, or a `.keras` file in one.

    Raises SearchError when it is none, ModelError when Keras does not open it.
    """
    folder, file = (model, model / MODEL_FILE) if model.is_dir() else (model.parent, model)
    names = tuple(_read(folder, LABELS_FILE))
    calibration = _read(folder, CALIBRATION_FILE) if (folder / CALIBRATION_FILE).is_file() else {}
    trust = Trust.from_dict(calibration) if calibration else None
    import_keras()
    from models.export import load_model

    network, shape = load_model(file)
    return ExportedModel(folder, file, network, shape, names, trust, calibration.get("estimate_errors", {}))


def _read(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SearchError(f"{folder} is no exported model: its {name} cannot be read") from error

"""The fixed sizes of the demo, and the choice between them."""

from __future__ import annotations

from dataclasses import dataclass

from search.workspace import Workspace
from studies.sqlite_reader import read_studies

BACKBONE = "small_cnn"
IMAGE_SHAPE, CLASSES = (96, 96, 3), 8


@dataclass(frozen=True)
class DemoSize:
    """Size of the demo's search."""

    trials: int
    epochs: int
    """Epochs of a trial, at most."""


FULL, SHORT = "full", "short"
SIZES = {FULL: DemoSize(trials=14, epochs=12), SHORT: DemoSize(trials=8, epochs=6)}
FULL_STEP_MS = 20.0
"""Time of a training step up to which the full demo takes three minutes at most: in proportion, less a reserve, to
6 min 16 s at 56 ms (two cores with AVX2, 2026-11-30)."""


def size_of_started(workspace: Workspace) -> str | None:
    """Return the size of the demo that the workspace holds already; None without one."""
    if not workspace.database.is_file():
        return None
    settings = [study.settings for study in read_studies(workspace.database)]
    epochs = {one.recipe.get("epochs") for one in settings if one.backbone == BACKBONE}
    return next((name for name, size in SIZES.items() if size.epochs in epochs), None)


def demo_step_ms() -> float:
    """Measure a training step of the demo's network, in milliseconds. Imports TensorFlow."""
    from models.backbones.registry import UNTRAINED, backbone_named
    from models.networks.arithmetic import Arithmetic
    from models.networks.classifier import ClassifierSettings
    from models.networks.step_timing import step_times
    from models.training.recipe import Recipe

    settings = ClassifierSettings(backbone_named(BACKBONE), UNTRAINED, IMAGE_SHAPE, CLASSES)
    (row,) = step_times(settings, Recipe().batch_size, [Arithmetic()])
    return row.step_ms

"""What a study can maximize, known without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.errors import ModelError

DEFAULT_OBJECTIVE, CLEAN_OBJECTIVE = "mean_macro_f1", "macro_f1"
OBJECTIVES = {
    "mean_macro_f1": "mean of macro-F1 on clean and on corrupted validation images",
    "macro_f1": "macro-F1 on clean validation images",
    "corrupted_macro_f1": "macro-F1 on corrupted validation images",
    "accuracy": "accuracy on clean validation images",
    "worst_family_macro_f1": "macro-F1 on the family of corruptions where it is lowest",
}
"""Each a key of what models.scoring.trial_scores.score gives."""
EXTERNAL = "external:"
EXTERNAL_OBJECTIVE = f"{EXTERNAL}NAME"
"""Macro-F1 on the external set of that name, over the classes that it has; a key of what
models.scoring.external_scores.external_scores gives."""


def external_objective(name: str) -> str:
    """The objective on the external set of that name."""
    return EXTERNAL + name


def external_name(objective: str) -> str | None:
    """The name of the external set that an objective is on; None of any other objective."""
    return objective.removeprefix(EXTERNAL) if objective.startswith(EXTERNAL) else None


def objective_value(scores: Mapping[str, Any], objective: str) -> float:
    """The figure that a study maximizes. ModelError when the images to measure it on are not there."""
    if objective not in scores and (name := external_name(objective)) is not None:
        raise ModelError(
            f"the objective `{objective}` needs the external set {name}, and the prepared set has none of that name: "
            f"prepare again with `--external {name}=PATH`"
        )
    if objective not in scores:
        raise ModelError(
            f"the objective `{objective}` needs corrupted validation images, and the prepared set has none: choose the "
            "objective `macro_f1`, or prepare again without `--corrupted-views 0`"
        )
    return float(scores[objective])

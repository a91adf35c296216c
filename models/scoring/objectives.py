"""Objectives that a study can maximize. Imports no Keras."""

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
"""Objective -> description. Each objective is a key of the result of `models.scoring.trial_scores.score`."""
EXTERNAL = "external:"
EXTERNAL_OBJECTIVE = f"{EXTERNAL}NAME"
"""Form of the other objectives: macro-F1 on the external set NAME, over the classes that it has. Each is a key of the
result of `models.scoring.external_scores.external_scores`."""


def external_objective(name: str) -> str:
    """Return the objective on the external set of this name."""
    return EXTERNAL + name


def external_name(objective: str) -> str | None:
    """Return the name of the external set that an objective is measured on, or None for any other objective."""
    return objective.removeprefix(EXTERNAL) if objective.startswith(EXTERNAL) else None


def objective_value(scores: Mapping[str, Any], objective: str) -> float:
    """Return the value that a study maximizes.

    Args:
        scores: Scores of an epoch or a trial.
        objective: A key of OBJECTIVES, or `external:NAME`.

    Raises:
        ModelError: The prepared set lacks the images that the objective is measured on.
    """
    if objective not in scores and (name := external_name(objective)) is not None:
        raise ModelError(
            f"the objective `{objective}` needs the external set {name}, but the prepared set has none of that name: "
            f"prepare again with `--external {name}=PATH`"
        )
    if objective not in scores:
        raise ModelError(
            f"the objective `{objective}` needs corrupted validation images, but the prepared set has none: choose the "
            "objective `macro_f1`, or prepare again without `--corrupted-views 0`"
        )
    return float(scores[objective])

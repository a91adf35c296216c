"""Checkpoint of a running trial: one file with everything its next epoch depends on, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.files import replacing

GROUPS = ("network", "optimizer_state", "best")
"""Groups of arrays in a checkpoint: variables of the training model (weights and seed generators), the optimizer's
state, and the weights of the best epoch."""


@dataclass(frozen=True)
class CheckpointFacts:
    """Progress of a trial. Learning rate and early stopping are not stored: they follow from the reported values."""

    phase: int
    """Number of the current phase, from 0."""
    done: int
    """Finished epochs of that phase."""
    collapsed_epochs: int
    first_step_s: float
    epochs: list[dict[str, Any]]
    """Finished epochs of all phases, each a `models.training.plan.EpochFigures` as a dict."""


@dataclass(frozen=True)
class CheckpointFile:
    """File that holds one trial's checkpoint."""

    path: Path
    identity: str
    """Identifies everything that decides the trial. A checkpoint with another identity is ignored."""

    def save(self, progress: CheckpointFacts, arrays: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Write a checkpoint in place of the old one. A kill at any moment leaves the old checkpoint or the new one.

        Args:
            progress: Progress of the trial.
            arrays: Arrays of each group in GROUPS.

        Raises:
            OSError: The disk is full.
        """
        named = {f"{group}/{place}": array for group in GROUPS for place, array in enumerate(arrays[group])}
        facts = json.dumps({"identity": self.identity} | asdict(progress))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, open(partial, "wb") as file:
            np.savez(file, facts=np.frombuffer(facts.encode(), np.uint8), **named)  # type: ignore[arg-type]

    def load(self) -> tuple[CheckpointFacts, dict[str, list[np.ndarray]]] | None:
        """Read the checkpoint.

        Returns:
            The progress and the arrays of each group. None if the file does not exist, belongs to another trial, or
            cannot be read; in the last case a printed line says why.
        """
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as content:
                facts = json.loads(content["facts"].tobytes())
                if facts.pop("identity") != self.identity:
                    return None
                found: dict[str, list[np.ndarray]] = {group: [] for group in GROUPS}
                for name in content.files:  # in the order they were written
                    if name != "facts":
                        found[name.split("/")[0]].append(content[name])
                return CheckpointFacts(**facts), found
        except FileNotFoundError:
            return None
        except Exception as error:  # zip, npy and JSON each raise other errors for a damaged file
            print(f"{self.path} cannot be read ({error}): the trial starts again from its first epoch")
            return None

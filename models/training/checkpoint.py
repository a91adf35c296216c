"""A trial under way on disk: all that its next epoch depends on, in one file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.files import replacing

GROUPS = ("network", "optimizer_state", "best")
"""Variables of the training model (weights and seed generators), the optimizer's state, the best epoch's weights."""


@dataclass(frozen=True)
class CheckpointFacts:
    """How far a trial has come. Learning rate and early stopping follow from the reported values and are not kept."""

    phase: int
    """Number of the phase, from 0."""
    done: int
    """Finished epochs of that phase."""
    collapsed_epochs: int
    first_step_s: float
    epochs: list[dict[str, Any]]
    """As models.training.plan.EpochFigures, of all phases."""


@dataclass(frozen=True)
class CheckpointFile:
    """Where one trial's state is kept."""

    path: Path
    identity: str
    """Of everything that decides the trial; a state with another one is not its own."""

    def save(self, progress: CheckpointFacts, arrays: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Replaces what was there. A kill at any moment leaves the old state or the new one. OSError on a full disk."""
        named = {f"{group}/{place}": array for group in GROUPS for place, array in enumerate(arrays[group])}
        facts = json.dumps({"identity": self.identity} | asdict(progress))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, open(partial, "wb") as file:
            np.savez(file, facts=np.frombuffer(facts.encode(), np.uint8), **named)  # type: ignore[arg-type]

    def load(self) -> tuple[CheckpointFacts, dict[str, list[np.ndarray]]] | None:
        """None where there is none, or none that can be read, or another trial's."""
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
        except Exception as error:  # a damaged file fails in any of zip, npy and JSON
            print(f"{self.path} cannot be read ({error}): the trial begins again")
            return None

"""What the asking process sends to a training process, and what comes back: one JSON object a line, both ways.

Requests: `describe` (build the network once: are its weights there, what is it like), `choose` (an `Undecided`: which
precision, XLA or not, which frozen layers' output to keep), `time` (short trials like these `TrainingJob`s: what will
they take) and `train` (a `TrainingJob`). Replies to the first three: `described`, `chosen`, `timed` or `failed`. While
training: `epochs` after each epoch, and first of all with the earlier ones of a trial that is taken up again, each
answered with `continue` or `stop`; at the end `done` or `failed`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CACHE_OFF = "off"


@dataclass(frozen=True)
class TrainingJob:
    """One trial's work; plain values only, so that it can cross to another process or machine."""

    prepared: str
    """Folder of the prepared set."""
    folder: str
    """Where the trial leaves its weights and probabilities."""
    backbone: str
    weights: str
    recipe: dict[str, Any]
    objective: str
    hyperparameters: dict[str, Any]
    seed: int
    batch_divisor: int = 1
    """Batches are cut into so many parts, for want of memory."""
    folds: int = 0
    """More than 0: the training images are divided into so many parts, and one of them is held out and scored, in place
    of the validation images."""
    fold: int = 0
    fold_seed: int = 0
    prefix_cache: str = CACHE_OFF
    """The precision in which the frozen layers' output is kept: float32, float16, or `off`."""
    prefix_cache_from: float = 0.0
    """The least frozen fraction at which it is kept."""
    cache_gb: float = 0.0
    """Gigabytes that all of it may take."""
    cache_folder: str = ""
    own_backbone: dict[str, str] = field(default_factory=dict)
    """Of a backbone of the user's own, as `Backbone.own` has it."""
    backbone_file: str = ""
    """Where its file is, if it has one."""
    extra_views: str = ""
    """The folder of augmented views of the validation images, where those are trained on as well: a refit."""
    replayed: tuple[float, ...] = ()
    """As models.trial.Plan."""
    precision: str = "float32"
    xla: bool = False
    """As models.arithmetic.Arithmetic."""

    def decisive(self, *places: str) -> dict[str, Any]:
        """All that decides a trial, without the `places`. What jobs had not from the start is left out where it is as
        it was then: trials under way go on, and refits are found."""
        later: dict[str, tuple[Any, ...]] = {
            "replayed": ((), []),
            "precision": ("float32",),
            "xla": (False,),
            "prefix_cache_from": (0.0,),
        }
        facts = {key: value for key, value in asdict(self).items() if key not in places}
        return {key: value for key, value in facts.items() if value not in later.get(key, ())}


@dataclass(frozen=True)
class Undecided:
    """What of a new study's training is open, with all that a `choose` request must know to measure it.

    The reply has the chosen `precision` and `xla`; `keep_from`, the least frozen fraction from which on keeping
    features pays, or None where it does not; the `device`, and the `steps` and `cuts` that were timed on it.
    """

    prepared: str
    backbone: str
    weights: str
    own_backbone: dict[str, str]
    backbone_file: str
    resolution: int
    batch_size: int
    precisions: tuple[str, ...]
    xla: tuple[bool, ...]
    """Those to choose from; the first ones are taken where nothing is measured."""
    steps: int
    """Of a trial."""
    frozen_fractions: tuple[float, ...]
    """What trials may freeze, if features are kept and may be computed instead; else none."""
    prefix_cache: str
    """The precision they are kept in."""
    cache_bytes: int
    """That all of them may take."""
    scratch: str
    """A folder on the disk where they would be kept."""
    stored_images: int
    """All whose features may be kept."""
    on_cpu: bool
    """Measure on a CPU as well."""


DESCRIBED = ("prepared", "backbone", "weights", "own_backbone", "backbone_file")
"""Of a job, what `describe` must know besides the `resolution`."""

WEIGHTS_FILE = "best.weights.h5"
PROBABILITIES_FILE = "validation_probabilities.npy"
CORRUPTED_FILE = "corrupted_probabilities.npy"
"""Of the corrupted views of the validation images."""


STATE_FILE = "state.npz"
"""All that the next epoch of a trial under way depends on."""
LOG_FILE = "log.txt"
"""What the training process printed."""


def trial_folder(trials: Path, study: str, number: int) -> Path:
    return trials / study / numbered(number)


def numbered(number: int) -> str:
    """The name of a trial's folder."""
    return f"{number:05d}"

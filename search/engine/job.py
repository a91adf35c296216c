"""What the asking process sends to a training process, and what comes back: one JSON object a line, both ways.

Requests: `describe` (build the network once: are its weights there, what is it like), `choose` (an `OpenChoices`: which
precision, XLA or not, which frozen layers' output to keep), `time` (short trials like these `TrainingJob`s: what will
they take) and `train` (a `TrainingJob`). Replies to the first three: `described`, `chosen`, `timed` or `failed`. While
training: `epochs` after each epoch, and first of all with the earlier ones of a trial that is taken up again, each
answered with `continue` or `stop`; at the end `done` or `failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from studies.settings import StudySettings

WEIGHTS_FILE = "best.weights.h5"
PROBABILITIES_FILE = "validation_probabilities.npy"
CORRUPTED_FILE = "corrupted_probabilities.npy"
"""Of the corrupted views of the validation images."""
STATE_FILE = "state.npz"
"""All that the next epoch of a trial under way depends on."""
LOG_FILE = "log.txt"
"""What the training process printed."""

DECIDE_NOTHING = (
    *("fingerprint", "sampler", "pruner", "seed", "space", "preparation", "measured", "keras_backend", "resolution"),
    *("version", "weights"),
)
"""Settings of a study that decide none of its trials, or do so through their hyperparameters or their source."""
FIRST_FACTS = (
    *("backbone", "weights", "own_backbone", "recipe", "objective", "prefix_cache", "cache_gb", "hyperparameters"),
    *("seed", "batch_divisor", "folds", "fold", "fold_seed"),
)
"""What the facts of a job were in the first version. Others are left out at their defaults, which held then."""


@dataclass(frozen=True)
class NetworkSource:
    """What a training process must know to build a study's network."""

    prepared: str
    """Folder of the prepared set."""
    backbone: str
    weights: str
    """`imagenet`, `none`, `own`, or the path of a file."""
    own_backbone: dict[str, str] = field(default_factory=dict)
    """Of a backbone of the user's own, as `Backbone.own` has it; else empty."""
    backbone_file: str = ""
    """Where its file is, if it has one."""


@dataclass(frozen=True)
class TrainingJob:
    """One trial's work; plain values only, so that it can cross to another process or machine.

    Whatever a study fixes for all of its trials is in `settings`: a new setting needs no field here.
    """

    settings: StudySettings
    source: NetworkSource
    folder: str
    """Where the trial leaves its weights and probabilities."""
    hyperparameters: dict[str, Any]
    seed: int
    batch_divisor: int = 1
    """Parts into which batches are cut, for want of memory."""
    folds: int = 0
    """More than 0: the training images are divided into this many parts, and one of them is held out and scored, in
    place of the validation images."""
    fold: int = 0
    fold_seed: int = 0
    cache_folder: str = ""
    """Where the frozen layers' output is kept."""
    extra_views: str = ""
    """The folder of augmented views of the validation images, where those are trained on as well: a refit."""
    replayed: tuple[float, ...] = ()
    """As models.training.plan.Plan."""

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> TrainingJob:
        """Rebuild a job from what `dataclasses.asdict` made of it, also after a way through JSON."""
        own = {"settings": StudySettings(**content["settings"]), "source": NetworkSource(**content["source"])}
        return TrainingJob(**{**content, **own, "replayed": tuple(content["replayed"])})

    def facts(self) -> dict[str, Any]:
        """All that decides the trial, wherever its files lie.

        Trials under way and refits are recognised by it, also those of earlier versions.
        """
        settings = {key: value for key, value in vars(self.settings).items() if key not in DECIDE_NOTHING}
        own = ("hyperparameters", "seed", "batch_divisor", "folds", "fold", "fold_seed", "replayed")
        defaults = {one.name: one.default for one in (*fields(StudySettings), *fields(TrainingJob))}
        facts = settings | {key: getattr(self, key) for key in own} | {"weights": self.source.weights}
        known = {key: value for key, value in facts.items() if key in FIRST_FACTS or value != defaults[key]}
        # Names and values as the first version had them.
        known["cache_gb"] = known.pop("prefix_cache_gb", 0.0)
        return known | ({"xla": True} if "xla" in known else {})


MakeJob = Callable[[int, Mapping[str, Any], int], TrainingJob]
"""(trial number, hyperparameters, seed) -> the job of a study's trial."""


@dataclass(frozen=True)
class OpenChoices:
    """What of a new study's training is open, with all that a `choose` request must know to measure it.

    The reply has the chosen `precision` and `xla`; `keep_from`, the least frozen fraction from which on keeping
    features pays, or None where it does not; the `device`, and the `steps` and `cuts` that were timed on it.
    """

    source: NetworkSource
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

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> OpenChoices:
        """Rebuild it from what `dataclasses.asdict` made of it."""
        return OpenChoices(**{**content, "source": NetworkSource(**content["source"])})


def trial_folder(trials: Path, study: str, number: int) -> Path:
    return trials / study / trial_folder_name(number)


def trial_folder_name(number: int) -> str:
    return f"{number:05d}"

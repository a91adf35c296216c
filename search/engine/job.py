"""Messages between the search process and a training process (its worker): one JSON object per line, both ways.

Requests:
    describe: Build the network once, to check its weights and to learn its size and cuts. Reply: `described`.
    choose: Measure an `OpenChoices`: which precision, XLA or not, which output of frozen layers to cache. Reply:
        `chosen`.
    time: Time short trials like the given `TrainingJob`s, to predict full ones. Reply: `timed`.
    train: Train a `TrainingJob`. The worker sends `epochs` after each epoch, and once at the start with the earlier
        epochs of a resumed trial. The search process answers each with `continue` or `stop`. Last reply: `done`.

The reply to any request is `failed` if the worker cannot fulfil it.
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
"""Probabilities of the corrupted views of the validation images."""
STATE_FILE = "state.npz"
"""Checkpoint of an unfinished trial: everything that its next epoch depends on."""
LOG_FILE = "log.txt"
"""Output of the training process."""

IRRELEVANT_SETTINGS = (
    *("fingerprint", "sampler", "pruner", "seed", "space", "preparation", "measured", "keras_backend", "resolution"),
    *("version", "weights"),
)
"""Study settings that do not affect a trial, or only through its hyperparameters, seed or source."""
FIRST_FACTS = (
    *("backbone", "weights", "own_backbone", "recipe", "objective", "prefix_cache", "cache_gb", "hyperparameters"),
    *("seed", "batch_divisor", "folds", "fold", "fold_seed"),
)
"""Facts of a job in the first version. Newer ones are left out at their defaults, which is how that version behaved."""


@dataclass(frozen=True)
class NetworkSource:
    """Everything that a training process needs to build a study's network."""

    prepared: str
    """Folder of the prepared set."""
    backbone: str
    weights: str
    """`imagenet`, `none`, `own`, or the path of a weights file."""
    own_backbone: dict[str, str] = field(default_factory=dict)
    """Identity of a user's own backbone, as in `Backbone.own`; else empty."""
    backbone_file: str = ""
    """Path of the user's `.keras` file; empty if there is none."""


@dataclass(frozen=True)
class TrainingJob:
    """One trial to train, as plain values that can be sent to another process or machine.

    Everything that is the same for all trials of a study is in `settings`, so a new setting needs no field here.
    """

    settings: StudySettings
    source: NetworkSource
    folder: str
    """Folder for the trial's files: weights, probabilities, checkpoint and log."""
    hyperparameters: dict[str, Any]
    seed: int
    batch_divisor: int = 1
    """Parts into which a batch is cut when memory is short."""
    folds: int = 0
    """Parts into which the training images are divided, one of which is held out and scored in place of the validation
    images; 0: no division."""
    fold: int = 0
    """Part that is held out, 0 <= fold < folds."""
    fold_seed: int = 0
    """Seed of the division."""
    cache_folder: str = ""
    """Folder of the cached output of frozen layers."""
    extra_views: str = ""
    """Folder of augmented views of the validation images, if a refit trains on these images as well; else empty."""
    replayed: tuple[float, ...] = ()
    """Values that an earlier trial reported, as in models.training.plan.Plan."""

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> TrainingJob:
        """Rebuild a job from its `dataclasses.asdict`, also after a round trip through JSON."""
        own = {"settings": StudySettings(**content["settings"]), "source": NetworkSource(**content["source"])}
        return TrainingJob(**{**content, **own, "replayed": tuple(content["replayed"])})

    def facts(self) -> dict[str, Any]:
        """Return everything that decides the trial's result, independent of where its files lie.

        Checkpoints and refits are recognised by these facts, including files that earlier versions wrote.
        """
        settings = {key: value for key, value in vars(self.settings).items() if key not in IRRELEVANT_SETTINGS}
        own = ("hyperparameters", "seed", "batch_divisor", "folds", "fold", "fold_seed", "replayed")
        defaults = {one.name: one.default for one in (*fields(StudySettings), *fields(TrainingJob))}
        facts = settings | {key: getattr(self, key) for key in own} | {"weights": self.source.weights}
        known = {key: value for key, value in facts.items() if key in FIRST_FACTS or value != defaults[key]}
        # Keep the names and values of the first version, so that its files are still recognised.
        known["cache_gb"] = known.pop("prefix_cache_gb", 0.0)
        return known | ({"xla": True} if "xla" in known else {})


MakeJob = Callable[[int, Mapping[str, Any], int], TrainingJob]
"""(trial number, hyperparameters, seed) -> job of that trial."""


@dataclass(frozen=True)
class OpenChoices:
    """Training options that a new study leaves open, with everything that a `choose` request needs to measure them.

    Features are the output of frozen layers. The reply has the chosen `precision` and `xla`; `keep_from`, the smallest
    frozen fraction from which caching features pays, or None if it never does; the `device`; and the `steps` and `cuts`
    that were timed on it.
    """

    source: NetworkSource
    resolution: int
    batch_size: int
    precisions: tuple[str, ...]
    """Precisions to choose from; the first is taken if nothing is measured."""
    xla: tuple[bool, ...]
    """Values of `xla` to choose from; the first is taken if nothing is measured."""
    steps: int
    """Training steps of a trial."""
    frozen_fractions: tuple[float, ...]
    """Frozen fractions of trials for which caching is compared with computing; empty if that choice is not open."""
    prefix_cache: str
    """Precision of cached features."""
    cache_bytes: int
    """Limit of the whole cache in bytes."""
    scratch: str
    """Folder for temporary files, on the disk of the cache."""
    stored_images: int
    """Number of images and views whose features may be cached."""
    on_cpu: bool
    """Whether to measure on a CPU as well."""

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> OpenChoices:
        """Rebuild the choices from their `dataclasses.asdict`."""
        return OpenChoices(**{**content, "source": NetworkSource(**content["source"])})


def trial_folder(trials: Path, study: str, number: int) -> Path:
    """Return the folder of a trial's files; `trials` is the workspace's folder of all trials."""
    return trials / study / trial_folder_name(number)


def trial_folder_name(number: int) -> str:
    return f"{number:05d}"

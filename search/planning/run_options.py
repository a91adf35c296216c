"""The options of `hpsearch run`, and the settings of a study made from them.

To add a setting, add its option in search/commands/run.py and a field of the same name in models.training.recipe.Recipe
(how trials are trained) or studies.settings.StudySettings (anything else that a study fixes), then use it. The setting
is passed to the trainer, stored with the study, and compared when the study is run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.backbones.registry import NAMED_WEIGHTS, UNTRAINED, Backbone, default_weights
from models.keras_config import backend_name
from models.networks.arithmetic import FLOAT32, PRECISIONS
from models.scoring.objectives import CLEAN_OBJECTIVE, DEFAULT_OBJECTIVE, EXTERNAL_OBJECTIVE, OBJECTIVES, external_name
from models.training.recipe import Recipe
from search.errors import SearchError
from studies.definition import Definition
from studies.pruners import DEFAULT_PRUNER
from studies.samplers import DEFAULT_SAMPLER
from studies.settings import PREFIX_CACHE_OFF, XLA_OFF, XLA_ON, StudySettings

if TYPE_CHECKING:  # NumPy, which --help does not need
    from data_prep.storage.reader import PreparedSet

AUTO, MEASURE = "auto", "measure"
OPEN_VALUES: Mapping[str, tuple[str, ...]] = {
    "precision": (AUTO, MEASURE),
    "xla": (AUTO,),
    "prefix_cache": (AUTO,),
}
"""Setting -> values that leave it open, to be decided once when the study is made (arithmetic_choice.py)."""
PREFIX_CACHES = (AUTO, PREFIX_CACHE_OFF, "float32", "float16")
PRECISION_CHOICES, XLA_CHOICES = (*OPEN_VALUES["precision"], *PRECISIONS), (AUTO, XLA_ON, XLA_OFF)
NEED_NO_CORRUPTIONS = (CLEAN_OBJECTIVE, "accuracy")

DEFAULT_KEEP, DEFAULT_HINTS = 5, 5
"""Best trials whose weights are kept, and trials that a warm start takes, if the user gives no number."""
SETTING_DEFAULTS: Mapping[str, Any] = asdict(Recipe()) | {
    "weights": None,
    "objective": DEFAULT_OBJECTIVE,
    "sampler": DEFAULT_SAMPLER,
    "pruner": DEFAULT_PRUNER,
    "seed": 0,
    "prefix_cache": AUTO,
    "prefix_cache_gb": 8.0,
    "precision": AUTO,
    "xla": AUTO,
    "resolution": None,
}
"""Setting -> default value."""


@dataclass(frozen=True)
class Limits:
    """Limits of this call of `run`; another call on the same study may have other limits."""

    time_budget_s: float | None
    trial_timeout_s: float | None
    keep: int
    """Number of best trials whose weights are kept."""
    disk_budget_gb: float | None
    memory_limit_gb: float | None
    fresh_workers: bool
    """Whether each trial gets a new training process."""


@dataclass(frozen=True)
class Confirmation:
    """Trials to train again after the search."""

    top: int = 0
    """Number of best trials to train again on other seeds."""
    seeds: int = 0
    """Number of other seeds for each of the best trials."""
    folds: int = 0
    """Number of folds of the training images for cross-validating the best trial; 0: no cross-validation."""


@dataclass(frozen=True)
class RunOptions:
    """Options of one call of `hpsearch run`."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that a study fixes, by the names of SETTING_DEFAULTS; missing ones have their defaults."""
    trials: int = 20
    preprocessing: str | None = None
    """Preprocessing that the user's own backbone was trained with."""
    space: str = "default"
    confirmation: Confirmation = field(default_factory=Confirmation)
    study: str | None = None
    """Name of the stored study to continue."""
    new_version: bool = False
    """Whether changed settings start a new version of the stored study, which takes over the trials that still fit."""
    given: frozenset[str] = frozenset()
    """Options that the user gave; the others may take their values from a stored study."""
    in_file: frozenset[str] = frozenset()
    """Options among `given` that the config file sets."""

    @staticmethod
    def of(**values: Any) -> RunOptions:
        """Sort the command's options, given by name, into a study's settings and the rest."""
        own = {key: value for key, value in values.items() if key not in SETTING_DEFAULTS}
        return RunOptions({key: value for key, value in values.items() if key not in own}, **own)

    def __getitem__(self, setting: str) -> Any:
        """Return the value of a setting, or its default if the user gave none."""
        return self.settings.get(setting, SETTING_DEFAULTS[setting])

    def is_open(self, setting: str) -> bool:
        """Return whether this setting is left to be decided when the study is made."""
        return self[setting] in OPEN_VALUES.get(setting, ())


def wanted_settings(
    prepared: PreparedSet, backbone: Backbone, options: RunOptions, definition: Definition
) -> StudySettings:
    """Return the settings of a study made with these options.

    Raises:
        SearchError: The objective is unknown or needs images that the prepared set lacks, or XLA is off on JAX.
    """
    weights = options["weights"] or default_weights(backbone)
    asked = {one.name: options[one.name] for one in fields(StudySettings) if one.name in SETTING_DEFAULTS}
    resolved = {
        "backbone": backbone.name,
        "fingerprint": prepared.fingerprint,
        "weights": weights_identity(weights),
        "recipe": asdict(Recipe(**{one.name: options[one.name] for one in fields(Recipe)})),
        "objective": chosen_objective(prepared, options),
        "prefix_cache": chosen_cache(options["prefix_cache"], weights),
        "precision": FLOAT32 if options.is_open("precision") else options["precision"],
        "xla": chosen_xla(options["xla"]),
        "keras_backend": backend_name(),
        "space": definition.as_dict(),
        "own_backbone": dict(backbone.own),
        "preparation": {key: prepared.manifest[key] for key in ("source", "settings", "versions")},
    }
    return StudySettings(**(asked | resolved))


def chosen_cache(asked: str, weights: str) -> str:
    """Return the precision in which the output of frozen layers is kept, or `off`.

    `auto` is float32, which changes predictions by no more than its rounding. A network without pretrained weights has
    no frozen layers, so nothing is kept.
    """
    if weights == UNTRAINED:
        return PREFIX_CACHE_OFF
    return "float32" if asked == AUTO else asked


def chosen_xla(asked: str) -> str:
    """Return `on` or `off`, before anything is measured.

    Raises:
        SearchError: XLA is asked to be off on JAX, which always compiles by XLA.
    """
    if backend_name() != "jax":
        return XLA_OFF if asked == AUTO else asked
    if asked == XLA_OFF:
        raise SearchError("JAX always compiles with XLA: omit --xla off, or set KERAS_BACKEND=tensorflow")
    return XLA_ON


def chosen_objective(prepared: PreparedSet, options: RunOptions) -> str:
    """Return the objective: the one asked for, or the clean one if none was given and the set has no corrupted images.

    Raises:
        SearchError: The objective is unknown, or needs images that the prepared set lacks.
    """
    objective: str = options["objective"]
    if (name := external_name(objective)) is not None:
        if name not in prepared.external_names:
            there = ", ".join(prepared.external_names) or "none"
            raise SearchError(
                f"the objective {objective} needs an external set {name!r}, and {prepared.folder} has "
                f"{there}: name one of them, or prepare again with --external {name}=PATH --force"
            )
        return objective
    if objective not in OBJECTIVES:
        known = ", ".join((*OBJECTIVES, EXTERNAL_OBJECTIVE))
        raise SearchError(f"unknown objective {objective!r}: there are {known}")
    if prepared.corrupted("validation") is not None or objective in NEED_NO_CORRUPTIONS:
        return objective
    if "objective" not in options.given:
        return CLEAN_OBJECTIVE
    raise SearchError(
        f"the objective {objective} needs corrupted validation images, and {prepared.folder} has none: "
        f"give --objective {CLEAN_OBJECTIVE}, or prepare again with --corrupted-views 2 --force"
    )


def weights_identity(weights: str) -> str:
    """Return `imagenet`, `none` or `own` unchanged; for a file, the hash of its content, which survives a move."""
    if weights in NAMED_WEIGHTS:
        return weights
    return f"sha256:{hashlib.sha256(Path(weights).read_bytes()).hexdigest()}"

"""What `hpsearch run` was asked for, and the settings that a study made as asked has.

To add a setting: its option in search/commands/run.py, a field of the same name in models.training.recipe.Recipe (how
trials are trained) or studies.settings.StudySettings (anything else that a study fixes), and its use. It travels from
there to the trainer, is stored with the study and compared when the study is run again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import NAMED_WEIGHTS, UNTRAINED, Backbone, default_weights
from models.networks.arithmetic import FLOAT32, PRECISIONS
from models.scoring.objectives import CLEAN_OBJECTIVE, DEFAULT_OBJECTIVE, EXTERNAL_OBJECTIVE, OBJECTIVES, external_name
from models.training.recipe import Recipe
from search.errors import SearchError
from studies.definition import Definition
from studies.pruners import DEFAULT_PRUNER
from studies.samplers import DEFAULT_SAMPLER
from studies.settings import PREFIX_CACHE_OFF, XLA_OFF, XLA_ON, StudySettings

AUTO, MEASURE = "auto", "measure"
OPEN_VALUES: Mapping[str, tuple[str, ...]] = {
    "precision": (AUTO, MEASURE),
    "xla": (AUTO,),
    "prefix_cache": (AUTO,),
}
"""Setting -> values that leave it open: it is decided once, when the study is made (arithmetic_choice.py)."""
PREFIX_CACHES = (AUTO, PREFIX_CACHE_OFF, "float32", "float16")
PRECISION_CHOICES, XLA_CHOICES = (*OPEN_VALUES["precision"], *PRECISIONS), (AUTO, XLA_ON, XLA_OFF)
NEED_NO_CORRUPTIONS = (CLEAN_OBJECTIVE, "accuracy")

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
"""What is asked for where the user says nothing, by setting."""


@dataclass(frozen=True)
class Confirmation:
    """What is to be trained again after the search."""

    top: int = 0
    """How many of the best trials ..."""
    seeds: int = 0
    """... on how many other seeds each."""
    folds: int = 0
    """On how many folds of the training images the best trial is trained; 0: none."""


@dataclass(frozen=True)
class RunOptions:
    """What `run` was asked for."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a study fixes, by the names of SETTING_DEFAULTS; those left out have their defaults."""
    trials: int = 20
    preprocessing: str | None = None
    """Of a backbone of the user's own."""
    space: str = "default"
    confirmation: Confirmation = field(default_factory=Confirmation)
    study: str | None = None
    """The name of a stored study to go on with."""
    new_version: bool = False
    """Where a stored study has other settings: start a study beside it, which takes over the trials that still fit."""
    given: frozenset[str] = frozenset()
    """The options that the user wrote; the others may follow a stored study."""
    in_file: frozenset[str] = frozenset()
    """Those of `given` that stand in the config file."""

    @staticmethod
    def of(**values: Any) -> RunOptions:
        """From the options of the command, a study's settings and others alike, by their names."""
        own = {key: value for key, value in values.items() if key not in SETTING_DEFAULTS}
        return RunOptions({key: value for key, value in values.items() if key not in own}, **own)

    def __getitem__(self, setting: str) -> Any:
        """What is asked for: one of SETTING_DEFAULTS."""
        return self.settings.get(setting, SETTING_DEFAULTS[setting])

    def is_open(self, setting: str) -> bool:
        """Whether this setting is to be decided when the study is made."""
        return self[setting] in OPEN_VALUES.get(setting, ())


def wanted_settings(
    prepared: PreparedSet, backbone: Backbone, options: RunOptions, definition: Definition
) -> StudySettings:
    """Return the settings of a study made as asked.

    Raises:
        SearchError: The set cannot give the objective, or JAX cannot do what is asked.
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
        "keras_backend": keras_backend(),
        "space": definition.as_dict(),
        "own_backbone": dict(backbone.own),
        "preparation": {key: prepared.manifest[key] for key in ("source", "settings", "versions")},
    }
    return StudySettings(**(asked | resolved))


def chosen_cache(asked: str, weights: str) -> str:
    """`auto` is float32, which changes no prediction by more than its rounding; without pretrained weights nothing is
    frozen, and there is nothing to keep."""
    if weights == UNTRAINED:
        return PREFIX_CACHE_OFF
    return "float32" if asked == AUTO else asked


def chosen_xla(asked: str) -> str:
    """`on` or `off`, as it is before anything is measured. SearchError for what JAX cannot do."""
    if keras_backend() != "jax":
        return XLA_OFF if asked == AUTO else asked
    if asked == XLA_OFF:
        raise SearchError("KERAS_BACKEND is jax, which compiles all by XLA: leave --xla off out, or use tensorflow")
    return XLA_ON


def chosen_objective(prepared: PreparedSet, options: RunOptions) -> str:
    """The objective asked for; left open on a set without corrupted images, the clean one. SearchError when such a set
    cannot give what was asked for."""
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


def keras_backend() -> str:
    """What Keras runs on here."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def weights_identity(weights: str) -> str:
    """`imagenet`, `none` and `own` as they are; a file by its content, so that moving it changes nothing."""
    if weights in NAMED_WEIGHTS:
        return weights
    return f"sha256:{hashlib.sha256(Path(weights).read_bytes()).hexdigest()}"

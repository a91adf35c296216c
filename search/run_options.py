"""What `hpsearch run` was asked for, and the settings that a study made as asked has."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_prep.prepared import PreparedSet
from models.arithmetic import FLOAT32, PRECISIONS
from models.backbones import NAMED_WEIGHTS, UNTRAINED, Backbone, default_weights
from models.objectives import CLEAN_OBJECTIVE, DEFAULT_OBJECTIVE, EXTERNAL_OBJECTIVE, OBJECTIVES, external_name
from models.recipe import Recipe
from search.errors import SearchError
from search.job import CACHE_OFF
from search.retraining import Confirmation
from studies.definition import Definition
from studies.samplers import DEFAULT_PRUNER, DEFAULT_SAMPLER
from studies.settings import StudySettings

AUTO = "auto"
PREFIX_CACHES = (AUTO, CACHE_OFF, "float32", "float16")
MEASURE, XLA_ON, XLA_OFF = "measure", "on", "off"
OPEN_PRECISIONS = (AUTO, MEASURE)
"""Decided once, when the study is made (search/choosing.py); `measure` by figures on a CPU too."""
PRECISION_CHOICES, XLA_CHOICES = (*OPEN_PRECISIONS, *PRECISIONS), (AUTO, XLA_ON, XLA_OFF)
RECIPE_OPTIONS = ("head_epochs", "epochs", "batch_size", "warmup_epochs", "class_weights")
NEED_NO_CORRUPTIONS = (CLEAN_OBJECTIVE, "accuracy")


@dataclass(frozen=True)
class RunOptions:
    """What `run` was asked for. `given` names the options that the user wrote; the others may follow a stored study."""

    trials: int = 20
    weights: str | None = None
    preprocessing: str | None = None
    """Of a backbone of the user's own."""
    head_epochs: int = Recipe.head_epochs
    epochs: int = Recipe.epochs
    batch_size: int = Recipe.batch_size
    warmup_epochs: int = Recipe.warmup_epochs
    class_weights: str = Recipe.class_weights
    resolution: int | None = None
    """Of all trials, in place of what the space says."""
    objective: str = DEFAULT_OBJECTIVE
    sampler: str = DEFAULT_SAMPLER
    pruner: str = DEFAULT_PRUNER
    seed: int = 0
    prefix_cache: str = AUTO
    prefix_cache_gb: float = 8.0
    precision: str = AUTO
    xla: str = AUTO
    space: str = "default"
    confirmation: Confirmation = field(default_factory=Confirmation)
    study: str | None = None
    """The name of a stored study to go on with."""
    new_version: bool = False
    """Where a stored study has other settings: start a study beside it, which takes over the trials that still fit."""
    given: frozenset[str] = frozenset()
    in_file: frozenset[str] = frozenset()
    """Those of `given` that stand in the config file."""


def wanted_settings(
    prepared: PreparedSet, backbone: Backbone, options: RunOptions, definition: Definition
) -> StudySettings:
    """Of a study made as asked. SearchError for an objective that the set cannot give, or what JAX cannot do."""
    weights = options.weights or default_weights(backbone)
    return StudySettings(
        backbone=backbone.name,
        fingerprint=prepared.fingerprint,
        weights=weights_identity(weights),
        recipe=asdict(Recipe(**{name: getattr(options, name) for name in RECIPE_OPTIONS})),
        objective=chosen_objective(prepared, options),
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
        prefix_cache=chosen_cache(options.prefix_cache, weights),
        prefix_cache_gb=options.prefix_cache_gb,
        precision=FLOAT32 if options.precision in OPEN_PRECISIONS else options.precision,
        xla=chosen_xla(options.xla),
        resolution=options.resolution,
        keras_backend=keras_backend(),
        space=definition.as_dict(),
        own_backbone=dict(backbone.own),
        preparation={key: prepared.manifest[key] for key in ("source", "settings", "versions")},
    )


def chosen_cache(asked: str, weights: str) -> str:
    """`auto` is float32, which changes no prediction by more than its rounding; without pretrained weights nothing is
    frozen, and there is nothing to keep."""
    if weights == UNTRAINED:
        return CACHE_OFF
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
    if (name := external_name(options.objective)) is not None:
        if name not in prepared.external_names:
            there = ", ".join(prepared.external_names) or "none"
            raise SearchError(
                f"the objective {options.objective} needs an external set {name!r}, and {prepared.folder} has "
                f"{there}: name one of them, or prepare again with --external {name}=PATH --force"
            )
        return options.objective
    if options.objective not in OBJECTIVES:
        known = ", ".join((*OBJECTIVES, EXTERNAL_OBJECTIVE))
        raise SearchError(f"unknown objective {options.objective!r}: there are {known}")
    if prepared.corrupted("validation") is not None or options.objective in NEED_NO_CORRUPTIONS:
        return options.objective
    if "objective" not in options.given:
        return CLEAN_OBJECTIVE
    raise SearchError(
        f"the objective {options.objective} needs corrupted validation images, and {prepared.folder} has none: "
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

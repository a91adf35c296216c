"""What a study fixes when it is made, stored in it, and compared when it is run again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from studies.errors import StudyError

if TYPE_CHECKING:  # readers start without Optuna
    from optuna import Study

ATTRIBUTE = "hpsearch"
PREFIX_CACHE_OFF = "off"
XLA_ON, XLA_OFF = "on", "off"
FINGERPRINT_LETTERS = 8
ABSENT: tuple[Any, ...] = (None, {})
"""Values of a key that say no more than its absence."""


@dataclass(frozen=True)
class StudySettings:
    """One study: the data it is on, and everything that all of its trials share."""

    backbone: str
    fingerprint: str
    """Of the prepared set, 64 hex letters."""
    weights: str
    """`imagenet`, `none`, or a file and the hash of its content."""
    recipe: dict[str, Any]
    """Phases, epochs, batch size, as models.training.recipe.Recipe has them."""
    objective: str
    sampler: str
    pruner: str
    seed: int
    space: dict[str, dict[str, Any]]
    """As studies.definition.Definition.as_dict gives it."""
    preparation: dict[str, Any] = field(default_factory=dict)
    """The options and versions behind the fingerprint, to tell what differs between two preparations."""
    prefix_cache: str = PREFIX_CACHE_OFF
    """The precision in which the output of frozen layers is kept between trials, or `off`."""
    prefix_cache_from: float = 0.0
    """The least frozen fraction at which it is kept; where less is frozen, computing it was measured to be quicker."""
    prefix_cache_gb: float = 0.0
    """Gigabytes that all of it may take; a cut whose output takes more is not kept."""
    precision: str = "float32"
    """In which trials train, a name of Keras's dtype policies; scores and exports are float32."""
    xla: str = XLA_OFF
    """Whether training steps are compiled by XLA: on or off. JAX has it in any case."""
    measured: dict[str, Any] = field(default_factory=dict)
    """What these were chosen by: the `device`, the `steps` timed on it, and for the cache the `cuts`; empty where the
    user chose."""
    keras_backend: str = "tensorflow"
    """What Keras runs on: the same trial has other figures on another one."""
    resolution: int | None = None
    """Of all trials, in place of what the space says; None: as the space says."""
    own_backbone: dict[str, str] = field(default_factory=dict)
    """What tells a backbone of the user's own from others of its name, as `Backbone.own` (models/backbones)."""
    version: int = 1
    """Counts the studies of one backbone on one prepared set, which differ in other settings."""

    @property
    def name(self) -> str:
        return study_name(self.backbone, self.fingerprint) + (f"-v{self.version}" if self.version > 1 else "")

    @property
    def arithmetic(self) -> str:
        """As one reads it."""
        return self.precision + (" with XLA" if self.xla == XLA_ON else "")


def study_name(backbone: str, fingerprint: str) -> str:
    """Of the first version."""
    return f"{backbone}-{fingerprint[:FINGERPRINT_LETTERS]}"


def store_settings(study: Study, settings: StudySettings) -> None:
    study.set_user_attr(ATTRIBUTE, json.dumps(asdict(settings)))


def stored_settings(study: Study) -> StudySettings:
    """StudyError when the study was not made by hpsearch."""
    text = study.user_attrs.get(ATTRIBUTE)
    if text is None:
        raise StudyError(f"the study {study.study_name} was not made by hpsearch; use another workspace")
    return settings_from(text)


def settings_from(text: str) -> StudySettings:
    """From the JSON that `store_settings` left."""
    return StudySettings(**json.loads(text))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two nested tables, one line each, by the path of the key. Tables that have no key in common,
    as a range and a fixed value have none, are one line."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict) and before.keys() & after.keys():
            lines += [f"{key}.{line}" for line in differences(before, after)]
        elif before != after and not (before in ABSENT and after in ABSENT):
            lines.append(f"{key}: {_text(before)} there, {_text(after)} here")
    return lines


def _text(value: Any) -> str:
    if value in ABSENT:
        return "absent"
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in _flat(value).items())
    return str(value)


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for key, value in table.items():
        rows |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return rows

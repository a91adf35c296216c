"""Settings that a study fixes when it is created. They are stored in it, and compared when it is run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
"""Values that mean the same as a missing key."""


SHOWN = ("backbone", "weights", "objective", "recipe", "sampler", "pruner", "precision", "seed")
"""Settings that optuna-dashboard shows; hpsearch does not read these attributes."""


@dataclass(frozen=True)
class StudySettings:
    """Settings of one study: its prepared set, and everything that all of its trials share."""

    backbone: str
    fingerprint: str
    """Fingerprint of the prepared set, 64 hex digits."""
    weights: str
    """`imagenet`, `none`, `own`, or for a weights file `sha256:` and the hash of its content."""
    recipe: dict[str, Any]
    """Fields of models.training.recipe.Recipe: phases, epochs, batch size."""
    objective: str
    sampler: str
    pruner: str
    seed: int
    space: dict[str, dict[str, Any]]
    """Search space, as studies.definition.Definition.as_dict returns it."""
    preparation: dict[str, Any] = field(default_factory=dict)
    """Options and versions behind the fingerprint, to show how two preparations differ."""
    prefix_cache: str = PREFIX_CACHE_OFF
    """Precision in which the output of frozen layers is cached between trials, or `off`."""
    prefix_cache_from: float = 0.0
    """Smallest frozen fraction at which the output is cached; below it, computing was measured to be faster."""
    prefix_cache_gb: float = 0.0
    """Limit of the whole cache in GB; the output at a cut that needs more is not cached."""
    precision: str = "float32"
    """Precision of training, a name of Keras's dtype policies; scores and exports are always float32."""
    xla: str = XLA_OFF
    """Whether XLA compiles training steps: `on` or `off`. JAX always uses it."""
    measured: dict[str, Any] = field(default_factory=dict)
    """Measurements behind the choice of precision, XLA and cache: the `device`, the `steps` timed on it, and for the
    cache the `cuts`. Empty if the user chose."""
    keras_backend: str = "tensorflow"
    """Backend of Keras; the same trial has other scores on another backend."""
    resolution: int | None = None
    """Image side in pixels for all trials, in place of the search space's; None: the space decides."""
    own_backbone: dict[str, str] = field(default_factory=dict)
    """Facts that distinguish a user's own backbone from others of its name, as `Backbone.own` (models/backbones)."""
    version: int = 1
    """Number, from 1, among the studies of this backbone on this prepared set; they differ in other settings."""

    @property
    def name(self) -> str:
        """Name of the study, which ends in its version from 2 on."""
        return study_name(self.backbone, self.fingerprint) + (f"-v{self.version}" if self.version > 1 else "")

    @property
    def arithmetic(self) -> str:
        """Precision and XLA in words, such as `float32 with XLA`."""
        return self.precision + (" with XLA" if self.xla == XLA_ON else "")


def study_name(backbone: str, fingerprint: str) -> str:
    """Return the name of a study's first version."""
    return f"{backbone}-{fingerprint[:FINGERPRINT_LETTERS]}"


def identities(stored: Mapping[str, StudySettings]) -> dict[str, str]:
    """Return the name by which hpsearch knows each stored study: that of its settings, which a renaming leaves alone.

    Files and replicates of the study go by this name. A copy of a study, beside the original, goes by its own name.

    Args:
        stored: Name in the database -> settings.
    """
    names: dict[str, str] = {}
    for name, settings in stored.items():
        is_free = settings.name not in stored and settings.name not in names.values()
        names[name] = settings.name if is_free else name
    return names


def store_settings(study: Study, settings: StudySettings) -> None:
    """Store the settings as one attribute, and some in attributes of their own, which optuna-dashboard shows."""
    for name in SHOWN:
        study.set_user_attr(name.replace("_", " "), getattr(settings, name))
    study.set_user_attr(ATTRIBUTE, json.dumps(asdict(settings)))


def stored_settings(study: Study) -> StudySettings:
    """Return the settings of a study.

    Raises:
        StudyError: hpsearch did not create the study.
    """
    text = study.user_attrs.get(ATTRIBUTE)
    if text is None:
        raise StudyError(f"the study {study.study_name} was not created by hpsearch; use another workspace")
    return settings_from(text)


def settings_from(text: str) -> StudySettings:
    """Rebuild settings from the JSON that `store_settings` wrote.

    Raises:
        StudyError: It was changed by another program, or a newer hpsearch wrote it.
    """
    try:
        return StudySettings(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise StudyError(
            f"the attribute `{ATTRIBUTE}` of a study cannot be read ({error}): a newer hpsearch wrote it, or another "
            f"program changed it; restore the workspace from a backup"
        ) from error


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the differences between two nested tables, one line per key, each with the path of the key.

    Two inner tables without a common key, such as a range and a fixed value, give one line.
    """
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict) and before.keys() & after.keys():
            lines += [f"{key}.{line}" for line in differences(before, after)]
        elif before != after and not (before in ABSENT and after in ABSENT):
            lines.append(f"{key}: {_text(before)} (stored), {_text(after)} (requested)")
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

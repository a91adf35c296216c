"""Whether a stored study has the settings that are asked for: go on with it, refuse, or start a version beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import optuna

from models.backbones.registry import NAMED_WEIGHTS, UNTRAINED
from search.errors import SearchError
from search.planning.run_options import OPEN_VALUES, SETTING_DEFAULTS, RunOptions
from search.terminal.config_file import stand_in_file
from studies.settings import StudySettings, differences, stored_settings

NOT_FOLLOWED = ("backbone", "fingerprint", "recipe", "preparation", "keras_backend", "own_backbone", "version")
"""Settings that do not follow the stored study where the user says nothing; parts of two of them do (`_following`)."""
FEW_DIFFERENCES = 3
"""Differences that an error names in its one line; more stand above it, a line each."""


@dataclass(frozen=True)
class Match:
    """What a stored study leads to."""

    stored: StudySettings
    settings: StudySettings
    """Of the study to be searched: the stored one, or a version of it."""
    is_new: bool = False
    is_remade: bool = False
    """The stored study has no trials: it is made again as asked."""
    predecessor: StudySettings | None = None
    notes: tuple[str, ...] = ()

    def weights_file(self, asked: str, options: RunOptions) -> str:
        """`asked` where the user named the weights, else the stored study's. SearchError where those are in a file."""
        if "weights" in options.given:
            return asked
        if self.stored.weights not in NAMED_WEIGHTS:
            raise SearchError(
                f"the study {self.stored.name} was made with weights from a file: name that file by --weights"
            )
        return self.stored.weights


def match_stored(
    study: optuna.Study, wanted: StudySettings, options: RunOptions, later: Sequence[StudySettings]
) -> Match:
    """Compare a stored study with what is asked for.

    Args:
        study: The stored one.
        wanted: The settings of a study made as asked, with the number of the next version.
        options: What was asked for.
        later: The versions there are, of which this very command may have made one before.

    Raises:
        SearchError: The stored study has other settings, and no new version is asked for.
    """
    stored = stored_settings(study)
    following = _following(stored, wanted, _given(options))
    changed = differences(asdict(stored), asdict(following))
    if changed and not study.trials:
        return Match(stored, replace(wanted, version=stored.version), is_new=True, is_remade=True)
    if changed and options.new_version:
        return _new_version(stored, replace(following, version=wanted.version), later, changed)
    if changed:
        raise _refusal(stored, following, changed, options)
    if options.new_version and stored.version == 1:  # a later one may be what this very command made, and was cut off
        raise SearchError(f"nothing differs from the study {stored.name}: give the new settings with --new-version")
    return Match(stored, stored)


def _given(options: RunOptions) -> frozenset[str]:
    """The options that must not follow the stored study. What was left open then was decided then."""
    given = options.given - {name for name in OPEN_VALUES if options.is_open(name)}
    return given | {"prefix_cache_from"} if "prefix_cache" in given else given


def _following(stored: StudySettings, wanted: StudySettings, given: frozenset[str]) -> StudySettings:
    """The settings wanted, with the stored ones wherever the user said nothing."""
    own = {one.name: getattr(stored, one.name) for one in fields(StudySettings) if one.name not in NOT_FOLLOWED}
    if stored.weights == UNTRAINED and "weights" in given:  # there was nothing to keep
        del own["prefix_cache"]
    # A study of before knows nothing of settings that came later, and its trials were trained with their defaults.
    said = {key: wanted.recipe[key] for key in given & wanted.recipe.keys()}
    recipe = stored.recipe | {
        key: value for key, value in said.items() if key in stored.recipe or value != SETTING_DEFAULTS[key]
    }
    if "preprocessing" in stored.own_backbone and wanted.own_backbone and "preprocessing" not in given:
        own_backbone = wanted.own_backbone | {"preprocessing": stored.own_backbone["preprocessing"]}
        wanted = replace(wanted, own_backbone=own_backbone)
    own = {key: value for key, value in own.items() if key not in given}
    return replace(wanted, version=stored.version, recipe=recipe, **own)


def _new_version(
    stored: StudySettings, following: StudySettings, later: Sequence[StudySettings], changed: list[str]
) -> Match:
    """The version that this command has made before, or a new one."""
    for one in later:
        like_it = replace(following, version=one.version, measured=one.measured)
        if one.version > stored.version and not differences(asdict(one), asdict(like_it)):
            return Match(stored, one)
    new = replace(following, measured=_still_measured(stored, following))
    notes = (f"{new.name} is a new version of {stored.name}; what differs:", *(f"  {line}" for line in changed))
    return Match(stored, new, is_new=True, predecessor=stored, notes=notes)


def _refusal(stored: StudySettings, following: StudySettings, changed: list[str], options: RunOptions) -> SearchError:
    is_short = len(changed) <= FEW_DIFFERENCES
    what, details = ("; ".join(changed), []) if is_short else (f"the {len(changed)} above", changed)
    if stored.own_backbone.get("sha256") != following.own_backbone.get("sha256"):
        return SearchError(
            f"the study {stored.name} began from another file ({what}): give that one, rename this one for a study of "
            f"its own, or start a study beside it with --new-version",
            details,
        )
    return SearchError(
        f"the study {stored.name} was made with other settings ({what}): leave these options out"
        f"{_in_file(changed, options.in_file)} to go on with it, or start a study beside it with --new-version",
        details,
    )


def _in_file(changed: list[str], in_file: frozenset[str]) -> str:
    """Which of the settings that differ stand in the config file."""
    keys = {part for line in changed for part in line.partition(":")[0].split(".")}
    return stand_in_file([name.replace("_", "-") for name in sorted(keys & in_file)], "run")


def _still_measured(stored: StudySettings, following: StudySettings) -> dict[str, Any]:
    """What of the stored measurements decided what is followed; the rest the user has chosen now."""
    decided = {"steps": ("precision", "xla"), "cuts": ("prefix_cache", "prefix_cache_from")}
    changed = [
        what for what, keys in decided.items() if any(getattr(stored, key) != getattr(following, key) for key in keys)
    ]
    return {key: value for key, value in stored.measured.items() if key not in changed}

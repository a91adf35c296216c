"""Compare a stored study with the settings asked for, to continue it, refuse, or start a new version beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import optuna

from models.backbones.registry import NAMED_WEIGHTS, UNTRAINED
from search.errors import SearchError
from search.planning.run_options import OPEN_VALUES, SETTING_DEFAULTS, RunOptions
from search.terminal.config_file import set_in_file_note
from studies.settings import StudySettings, differences, stored_settings

NOT_FOLLOWED = ("backbone", "fingerprint", "recipe", "preparation", "keras_backend", "own_backbone", "version")
"""Settings that are not taken from the stored study where the user gave none. `_following` takes parts of `recipe` and
`own_backbone`."""
FEW_DIFFERENCES = 3
"""Number of differences up to which an error names them in its own line; more are listed above it, one per line."""


@dataclass(frozen=True)
class Match:
    """Result of comparing a stored study with the settings asked for."""

    stored: StudySettings
    settings: StudySettings
    """Settings of the study to search: the stored study, or another version of it."""
    is_new: bool = False
    is_remade: bool = False
    """Whether the stored study, which has no trials, is made again with the settings asked for."""
    predecessor: StudySettings | None = None
    notes: tuple[str, ...] = ()

    def weights_file(self, asked: str, options: RunOptions) -> str:
        """Return `asked` if the user named the weights, else the stored study's weights.

        Raises:
            SearchError: The stored study's weights came from a file, whose path is not stored.
        """
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
    """Compare a stored study with the settings asked for.

    Args:
        study: The stored study.
        wanted: Settings of a study made as asked, with the number of the next version.
        options: Options of the command.
        later: Settings of all versions in the storage. An earlier run of this same command may have made one of them.

    Raises:
        SearchError: The stored study has other settings and no new version is asked for, or one is asked for and
            nothing differs.
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
    if options.new_version and stored.version == 1:  # this same command may have made a later version and been cut off
        raise SearchError(
            f"--new-version: no setting differs from the study {stored.name}; give the settings to change"
        )
    return Match(stored, stored)


def _given(options: RunOptions) -> frozenset[str]:
    """Return the options that override the stored study. Settings left open do not: the stored study decided them."""
    given = options.given - {name for name in OPEN_VALUES if options.is_open(name)}
    return given | {"prefix_cache_from"} if "prefix_cache" in given else given


def _following(stored: StudySettings, wanted: StudySettings, given: frozenset[str]) -> StudySettings:
    """Return the settings wanted, with the stored value wherever the user gave none."""
    own = {one.name: getattr(stored, one.name) for one in fields(StudySettings) if one.name not in NOT_FOLLOWED}
    if stored.weights == UNTRAINED and "weights" in given:  # it had no frozen layers to cache
        del own["prefix_cache"]
    # An older study lacks settings that were added since; its trials were trained with their defaults.
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
    """Return the version that an earlier run of the same command made, or a new one."""
    for one in later:
        like_it = replace(following, version=one.version, measured=one.measured)
        if one.version > stored.version and not differences(asdict(one), asdict(like_it)):
            return Match(stored, one)
    new = replace(following, measured=_valid_measurements(stored, following))
    lines = [f"  {_named_by_option(line)}" for line in changed]
    notes = (f"{new.name} is a new version of {stored.name}; differences:", *lines)
    return Match(stored, new, is_new=True, predecessor=stored, notes=notes)


def _refusal(stored: StudySettings, following: StudySettings, changed: list[str], options: RunOptions) -> SearchError:
    lines = [_named_by_option(line) for line in changed]
    is_short = len(lines) <= FEW_DIFFERENCES
    what, details = ("; ".join(lines), []) if is_short else (f"the {len(lines)} above", lines)
    if stored.own_backbone.get("sha256") != following.own_backbone.get("sha256"):
        return SearchError(
            f"the study {stored.name} started from another file ({what}): use that file, rename this one to start a "
            f"separate study, or use --new-version",
            details,
        )
    return SearchError(
        f"the study {stored.name} was made with other settings ({what}): omit these options"
        f"{_in_file(changed, options.in_file)} to continue the study, or start a new version with --new-version",
        details,
    )


def _named_by_option(line: str) -> str:
    """Return a difference with the option that sets it, as in `--epochs: 12 (stored), 6 (requested)`."""
    key, colon, values = line.partition(":")
    name = key.removeprefix("recipe.")
    return f"--{name.replace('_', '-')}{colon}{values}" if name in SETTING_DEFAULTS else line


def _in_file(changed: list[str], in_file: frozenset[str]) -> str:
    """Return a note on which of the differing settings are set in the config file."""
    keys = {part for line in changed for part in line.partition(":")[0].split(".")}
    return set_in_file_note([name.replace("_", "-") for name in sorted(keys & in_file)], "run")


def _valid_measurements(stored: StudySettings, following: StudySettings) -> dict[str, Any]:
    """Return the stored measurements behind settings that stay the same; drop those that the user now overrides."""
    decided = {"steps": ("precision", "xla"), "cuts": ("prefix_cache", "prefix_cache_from")}
    changed = [
        what for what, keys in decided.items() if any(getattr(stored, key) != getattr(following, key) for key in keys)
    ]
    return {key: value for key, value in stored.measured.items() if key not in changed}

"""From a command's options to a study that is ready to search: made anew, or opened and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage

from data_prep.prepared import PreparedSet
from models.backbones import (
    BACKBONES,
    NAMED_WEIGHTS,
    UNTRAINED,
    Backbone,
    check_size,
    check_weights,
    default_weights,
)
from models.hyperparameters import Hyperparameters, names
from search.config import stand_in_file
from search.errors import SearchError
from search.finding import latest_study, versions
from search.job import TrainingJob, trial_folder
from search.run_options import AUTO, OPEN_PRECISIONS, XLA_ON, RunOptions, wanted_settings
from search.spaces import check_definition, complete, resolutions_of
from search.versions import stay_behind, take_over, take_over_retrainings
from search.warm_start import Hints, take_hints
from search.workspace import Workspace
from studies.definition import Definition, definition_of, read_definition
from studies.proposals import tried
from studies.samplers import PRUNERS
from studies.settings import StudySettings, differences, stored_settings
from studies.storage import create_study, finish_study, load_study, study_names
from studies.trials import counted, unfinished

FOLLOWED = (
    "weights", "objective", "sampler", "pruner", "seed", "prefix_cache", "prefix_cache_from", "prefix_cache_gb",
    "space", "resolution", "precision", "xla", "measured",
)  # fmt: skip
"""Settings that follow the stored study where the user says nothing."""
FEW = 3
"""Differences that an error names in its one line; more stand above it, a line each."""


@dataclass(frozen=True)
class Session:
    """A study's settings with what they mean here: its search space, its weights file, whether it is new."""

    settings: StudySettings
    definition: Definition
    weights: str
    """`imagenet`, `none`, `own` or the path of the file."""
    is_new: bool
    predecessor: StudySettings | None = None
    """Of a new version: the study whose trials it takes over where they fit."""
    notes: tuple[str, ...] = ()
    resolutions: tuple[int, ...] = (0,)
    """Those that trials may have: each is a network of its own."""

    @property
    def head_epochs(self) -> int:
        """Epochs of the head phase, which a network without pretrained weights does not have."""
        return 0 if self.weights == UNTRAINED else int(self.settings.recipe["head_epochs"])

    @property
    def most_epochs(self) -> int:
        """Epochs of a trial that nothing ends early."""
        return self.head_epochs + int(self.settings.recipe["epochs"])


def plan_session(storage: RDBStorage | None, prepared: PreparedSet, backbone: Backbone, options: RunOptions) -> Session:
    """What would be searched, without writing anything.

    Raises SearchError when a stored study of this name has other settings than asked for, ModelError or StudyError for
    weights, image size or a space that make no sense.
    """
    weights = options.weights or default_weights(backbone)
    check_weights(backbone, weights)
    Hyperparameters(resolution=options.resolution or 0)  # says so where it is none
    asked = read_definition(options.space, backbone.name, names(), [*(row.name for row in BACKBONES), backbone.name])
    check_definition(asked)
    possible = asked.without_levels(prepared.levels)
    definition = complete(possible, prepared, backbone)
    wanted = wanted_settings(prepared, backbone, options, definition)
    study = existing_study(storage, wanted, options.study)
    have = ", ".join(prepared.levels) or "none"
    lacking = f"augmentation choices that the prepared set lacks are left out: it has {have}"
    notes = () if possible == asked else (f"{lacking}; `hpsearch prepare --levels` makes others",)
    if study is None:
        session = Session(wanted, definition, weights, True, notes=notes + _earlier(storage, wanted))
    else:
        assert storage is not None
        newest = existing_study(storage, wanted) or study
        wanted = replace(wanted, version=stored_settings(newest).version + 1)
        if "space" in options.given and any(parameter.name == "resolution" for parameter in asked.parameters):
            # A new space may say it as well as the flag.
            options = replace(options, given=options.given | {"resolution"})
        later = versions(storage, wanted.backbone, wanted.fingerprint) if options.new_version else []
        session = _go_on(study, wanted, replace(definition, first=asked.first), weights, options, later)
        session = replace(session, notes=session.notes + (notes if session.is_new else ()))
    return _at_its_resolutions(session, backbone, prepared.image_shape)


def _go_on(
    study: optuna.Study,
    wanted: StudySettings,
    definition: Definition,
    weights: str,
    options: RunOptions,
    others: Sequence[StudySettings],
) -> Session:
    """The stored study, or a new version of it, which has the number of `wanted`; one of the `others` that are there
    if this very command has made it before."""
    stored = stored_settings(study)
    # What was left open then was decided then.
    undecided = {"precision": options.precision in OPEN_PRECISIONS, "xla": options.xla == AUTO}
    undecided |= {"prefix_cache": options.prefix_cache == AUTO}
    given = options.given - {name for name, is_open in undecided.items() if is_open}
    if "prefix_cache" in given:  # all of it
        given |= {"prefix_cache_from"}
    following = _following(stored, wanted, given)
    changed = differences(asdict(stored), asdict(following))
    if changed and not study.trials:
        return Session(replace(wanted, version=stored.version), definition, weights, True)
    if changed and options.new_version:
        weights = _weights_of(stored, weights, options)
        for one in others:
            like_it = replace(following, version=one.version, measured=one.measured)
            if one.version > stored.version and not differences(asdict(one), asdict(like_it)):
                return Session(one, definition_of(one.space, definition.first), weights, False)
        new = replace(following, version=wanted.version, measured=_still_measured(stored, following))
        notes = (f"{new.name} is a new version of {stored.name}; what differs:", *(f"  {line}" for line in changed))
        return Session(new, definition_of(new.space, definition.first), weights, True, stored, notes)
    is_short = len(changed) <= FEW
    there = _in_file(changed, options.in_file)
    what, details = "; ".join(changed) if is_short else f"the {len(changed)} above", () if is_short else changed
    if changed and stored.own_backbone.get("sha256") != following.own_backbone.get("sha256"):
        raise SearchError(
            f"the study {stored.name} began from another file ({what}): give that one, rename this one for a study of "
            f"its own, or start a study beside it with --new-version",
            details,
        )
    if changed:
        raise SearchError(
            f"the study {stored.name} was made with other settings ({what}): leave these options out{there} to go on "
            f"with it, or start a study beside it with --new-version",
            details,
        )
    if options.new_version and stored.version == 1:  # a later one may be what this very command made, and was cut off
        raise SearchError(f"nothing differs from the study {stored.name}: give the new settings with --new-version")
    weights = _weights_of(stored, weights, options)
    return Session(stored, definition_of(stored.space, definition.first), weights, False)


def _weights_of(stored: StudySettings, weights: str, options: RunOptions) -> str:
    """`weights` where the user named them, else those of the stored study. SearchError where those are in a file."""
    if "weights" in options.given:
        return weights
    if stored.weights not in NAMED_WEIGHTS:
        raise SearchError(f"the study {stored.name} was made with weights from a file: name that file by --weights")
    return stored.weights


def _in_file(changed: list[str], in_file: frozenset[str]) -> str:
    """Which of the settings that differ stand in the config file."""
    keys = {part for line in changed for part in line.partition(":")[0].split(".")}
    return stand_in_file([name.replace("_", "-") for name in sorted(keys & in_file)], "run")


def _at_its_resolutions(session: Session, backbone: Backbone, image_shape: tuple[int, int, int]) -> Session:
    """With the study's own resolution in its space. ModelError when one that it has is too small."""
    definition = session.definition
    if session.settings.resolution is not None:
        definition = definition.fixed("resolution", session.settings.resolution)
    resolutions = resolutions_of(definition)
    for resolution in resolutions:
        check_size(backbone, image_shape, resolution)
    return replace(session, definition=definition, resolutions=resolutions)


def existing_study(storage: RDBStorage | None, wanted: StudySettings, name: str | None = None) -> optuna.Study | None:
    """The study called `name`, or the latest version of this backbone's on this prepared set; None without any.

    SearchError when the one called `name` is of other data, or another backbone's, with what differs.
    """
    if name is not None:
        if storage is None:
            raise SearchError(f"there is no study {name!r}: there are none in this workspace yet")
        stored = stored_settings(study := load_study(storage, name))
        if stored.fingerprint != wanted.fingerprint:
            changed = differences(stored.preparation, wanted.preparation) or ["the source's content"]
            raise SearchError(
                f"the study {name} is bound to another prepared set (what differs: {'; '.join(changed)}): prepare "
                f"that one again, or leave --study out for a study on this one"
            )
        if stored.backbone != wanted.backbone:
            raise SearchError(
                f"the study {name} is of {stored.backbone}, not of {wanted.backbone}: leave one of them out"
            )
        return study
    return latest_study(storage, wanted.backbone, wanted.fingerprint) if storage else None


def _following(stored: StudySettings, wanted: StudySettings, given: frozenset[str]) -> StudySettings:
    """The settings wanted, with the stored ones wherever the user said nothing."""
    own = {key: getattr(stored, key) for key in FOLLOWED}
    if stored.weights == UNTRAINED and "weights" in given:  # there was nothing to keep
        del own["prefix_cache"]
    recipe = stored.recipe | {key: value for key, value in wanted.recipe.items() if key in given}
    if "preprocessing" in stored.own_backbone and wanted.own_backbone and "preprocessing" not in given:
        own_backbone = wanted.own_backbone | {"preprocessing": stored.own_backbone["preprocessing"]}
        wanted = replace(wanted, own_backbone=own_backbone)
    own = {key: value for key, value in own.items() if key not in given}
    return replace(wanted, version=stored.version, recipe=recipe, **own)


def _still_measured(stored: StudySettings, following: StudySettings) -> dict[str, Any]:
    """What of the stored measurements decided what is followed; the rest the user has chosen now."""
    decided = {"steps": ("precision", "xla"), "cuts": ("prefix_cache", "prefix_cache_from")}
    changed = [
        what for what, keys in decided.items() if any(getattr(stored, key) != getattr(following, key) for key in keys)
    ]
    return {key: value for key, value in stored.measured.items() if key not in changed}


def _earlier(storage: RDBStorage | None, wanted: StudySettings) -> tuple[str, ...]:
    """A line for each study of this backbone on another preparation, with what differs."""
    lines = []
    for name in study_names(storage) if storage else ():
        study = load_study(storage, name)  # type: ignore[arg-type]
        stored = stored_settings(study)
        if stored.backbone == wanted.backbone and stored.fingerprint != wanted.fingerprint:
            changed = differences(stored.preparation, wanted.preparation) or ["the source's content"]
            lines.append(
                f"a new study: the prepared set is not that of {name} ({counted(study)} trials), which stays readable; "
                f"what differs: {'; '.join(changed)}"
            )
    return tuple(lines)


def open_study(
    storage: RDBStorage, session: Session, trials: Path, say: Callable[[str], None], hints: Hints | None = None
) -> optuna.Study:
    """The session's study, made when it is new: the hyperparameters to try first are then queued, or
    the trials of the version before it are taken over. `trials`: the folder where they leave their files. `hints`, of
    another study, are queued before, in a study that is there too."""
    settings, definition = session.settings, session.definition
    if session.is_new:
        study = create_study(storage, settings)
        if session.predecessor is not None:
            old = load_study(storage, session.predecessor.name)
            taken = take_over(old, study, definition, trials)
            take_over_retrainings(storage, old.study_name, settings, taken)
            say(f"{len(taken)} of {counted(old)} trials of {session.predecessor.name} fit and are taken over")
            if left := unfinished(old):
                say(stay_behind(left, session.predecessor.name, counted(old), settings.name))
        if hints is not None:
            take_hints(study, definition, hints, say)
        for first in definition.first if session.predecessor is None else ():
            if why := definition.why_not(first):
                say(f"hyperparameters to try first are skipped: {why} of the search space")
            elif tried(study, definition.searched(first)) is None:  # a hint may be the same
                study.enqueue_trial(definition.searched(first))
        finish_study(study)
    else:
        study = load_study(storage, settings.name)
        if hints is not None:
            take_hints(study, definition, hints, say)
    study.pruner = PRUNERS[settings.pruner](session.head_epochs, settings.recipe["epochs"])
    return study


def job_maker(workspace: Workspace, session: Session) -> Any:
    """(trial number, hyperparameters, seed) -> TrainingJob for this session's study."""
    settings = session.settings

    def make(number: int, hyperparameters: Mapping[str, Any], seed: int) -> TrainingJob:
        return TrainingJob(
            prepared=str(workspace.prepared.resolve()),
            folder=str(trial_folder(workspace.trials, settings.name, number).resolve()),
            backbone=settings.backbone,
            weights=session.weights if session.weights in NAMED_WEIGHTS else str(Path(session.weights).resolve()),
            recipe=settings.recipe,
            objective=settings.objective,
            hyperparameters=dict(hyperparameters),
            seed=seed,
            precision=settings.precision,
            xla=settings.xla == XLA_ON,
            prefix_cache=settings.prefix_cache,
            prefix_cache_from=settings.prefix_cache_from,
            cache_gb=settings.prefix_cache_gb,
            cache_folder=str(workspace.features.resolve()),
            own_backbone=settings.own_backbone,
            backbone_file=workspace.backbone_file(settings.own_backbone),
        )

    return make

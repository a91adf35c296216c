"""Plan the study that a command's options ask for: a new one, or a stored one with the same settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import optuna
from optuna.storages import RDBStorage

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import (
    BACKBONES,
    UNTRAINED,
    Backbone,
    check_size,
    check_weights,
    default_weights,
)
from models.errors import ModelError
from models.hyperparameters import Hyperparameters, names
from search.errors import SearchError
from search.planning.run_options import RunOptions, wanted_settings
from search.planning.space_checks import check_definition, complete, resolutions_of
from search.planning.stored_studies import latest_study, versions
from search.planning.study_match import Match, match_stored
from studies.definition import Definition, definition_of, read_definition
from studies.settings import StudySettings, differences, stored_settings
from studies.storage import load_study, study_names
from studies.trials import count_finished


@dataclass(frozen=True)
class PlannedStudy:
    """A study's settings with its search space, its weights, and whether it is new."""

    settings: StudySettings
    definition: Definition
    weights: str
    """Weights to start from: `imagenet`, `none`, `own` or the path of a file."""
    is_new: bool
    predecessor: StudySettings | None = None
    """Study whose trials a new version takes over where they fit; None for any other study."""
    notes: tuple[str, ...] = ()
    """Lines to show to the user."""
    resolutions: tuple[int, ...] = (0,)
    """Resolutions that trials may have; each needs its own network."""

    @property
    def head_epochs(self) -> int:
        """Epochs of the head phase; 0 without pretrained weights, where there is no such phase."""
        return 0 if self.weights == UNTRAINED else int(self.settings.recipe["head_epochs"])

    @property
    def most_epochs(self) -> int:
        """Epochs of a trial that is neither pruned nor stopped early."""
        return self.head_epochs + int(self.settings.recipe["epochs"])


def plan_study(
    storage: RDBStorage | None, prepared: PreparedSet, backbone: Backbone, options: RunOptions
) -> PlannedStudy:
    """Return the study that the options ask for, without writing anything.

    Raises:
        SearchError: A stored study of this name has other settings than asked for.
        ModelError, StudyError: The weights, the image size or the search space are not valid.
    """
    weights = options["weights"] or default_weights(backbone)
    check_weights(backbone, weights)
    Hyperparameters(resolution=options["resolution"] or 0)  # raises ModelError for an invalid one
    asked = read_definition(options.space, backbone.name, names(), [*(row.name for row in BACKBONES), backbone.name])
    try:
        check_definition(asked)
    except (ModelError, SearchError) as error:
        raise SearchError(f"the search space {options.space}: {error}") from error
    possible = asked.without_levels(prepared.levels)
    definition = complete(possible, prepared, backbone)
    wanted = wanted_settings(prepared, backbone, options, definition)
    study = existing_study(storage, wanted, options.study)
    notes = (*asked.notes(), *(() if possible == asked else (_lacking(prepared),)))
    if study is None:
        planned = PlannedStudy(wanted, definition, weights, True, notes=notes + _earlier(storage, wanted))
    else:
        assert storage is not None
        newest = existing_study(storage, wanted) or study
        wanted = replace(wanted, version=stored_settings(newest).version + 1)
        if "space" in options.given and any(parameter.name == "resolution" for parameter in asked.parameters):
            # A resolution in the user's own space counts as given, just as the flag does.
            options = replace(options, given=options.given | {"resolution"})
        later = versions(storage, wanted.backbone, wanted.fingerprint) if options.new_version else []
        match = match_stored(study, wanted, options, later)
        planned = _matched(match, replace(definition, first=asked.first), weights, options)
        planned = replace(planned, notes=planned.notes + (notes if planned.is_new else ()))
    return _at_its_resolutions(planned, backbone, prepared.image_shape)


def _lacking(prepared: PreparedSet) -> str:
    have = ", ".join(prepared.levels) or "none"
    return (
        f"augmentation choices that the prepared set lacks are left out: it has {have}; `hpsearch prepare --levels` "
        f"makes others"
    )


def _matched(match: Match, definition: Definition, weights: str, options: RunOptions) -> PlannedStudy:
    """Return the study that matches a stored one, with its own space and weights."""
    if match.is_remade:
        return PlannedStudy(match.settings, definition, weights, True)
    weights = match.weights_file(weights, options)
    space = definition_of(match.settings.space, definition.first)
    return PlannedStudy(match.settings, space, weights, match.is_new, match.predecessor, match.notes)


def _at_its_resolutions(planned: PlannedStudy, backbone: Backbone, image_shape: tuple[int, int, int]) -> PlannedStudy:
    """Return the study with its fixed resolution in its space. Raise ModelError if a resolution is too small."""
    definition = planned.definition
    if planned.settings.resolution is not None:
        definition = definition.fixed("resolution", planned.settings.resolution)
    resolutions = resolutions_of(definition)
    for resolution in resolutions:
        check_size(backbone, image_shape, resolution)
    return replace(planned, definition=definition, resolutions=resolutions)


def existing_study(storage: RDBStorage | None, wanted: StudySettings, name: str | None = None) -> optuna.Study | None:
    """Return the study called `name`, or the latest version of this backbone's study on this prepared set, if any.

    Raises:
        SearchError: The study called `name` has another prepared set (the error names the differences) or another
            backbone, or the workspace has no studies yet.
    """
    if name is not None:
        if storage is None:
            raise SearchError(f"there is no study {name!r}: there are none in this workspace yet")
        stored = stored_settings(study := load_study(storage, name))
        if stored.fingerprint != wanted.fingerprint:
            changed = differences(stored.preparation, wanted.preparation) or ["the source's content"]
            raise SearchError(
                f"the study {name} is bound to another prepared set (differences: {'; '.join(changed)}): prepare "
                f"the images with the study's options again, or omit --study for a study on this set"
            )
        if stored.backbone != wanted.backbone:
            raise SearchError(
                f"the study {name} is of {stored.backbone}, not of {wanted.backbone}: leave one of them out"
            )
        return study
    return latest_study(storage, wanted.backbone, wanted.fingerprint) if storage else None


def _earlier(storage: RDBStorage | None, wanted: StudySettings) -> tuple[str, ...]:
    """Return a line for each study of this backbone on another prepared set, with the differences."""
    lines = []
    for name in study_names(storage) if storage else ():
        study = load_study(storage, name)  # type: ignore[arg-type]
        stored = stored_settings(study)
        if stored.backbone == wanted.backbone and stored.fingerprint != wanted.fingerprint:
            changed = differences(stored.preparation, wanted.preparation) or ["the source's content"]
            lines.append(
                f"starting a new study: {name} ({count_finished(study)} trials) has another prepared set and stays "
                f"readable; differences: {'; '.join(changed)}"
            )
    return tuple(lines)

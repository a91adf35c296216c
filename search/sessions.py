"""From a command's options to a study that is ready to search: made anew, or opened and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage

from data_prep.prepared import PreparedSet
from models.backbones import IMAGENET, UNTRAINED, Backbone, check_weights, default_weights
from models.hyperparameters import names
from models.recipe import Recipe
from search.errors import SearchError
from search.job import TrainingJob, trial_folder
from search.workspace import Workspace
from studies.definition import Definition, definition_of, read_definition
from studies.records import counted
from studies.samplers import DEFAULT_PRUNER, DEFAULT_SAMPLER, PRUNERS
from studies.settings import StudySettings, differences, stored_settings
from studies.storage import create_study, load_study, study_names

UNPRUNED_SHARE = 4
"""One in so many fine-tuning epochs is over before a trial can be pruned."""


@dataclass(frozen=True)
class RunOptions:
    """What `run` was asked for. `given` names the options that the user wrote; the others may follow a stored study."""

    trials: int = 20
    weights: str | None = None
    head_epochs: int = Recipe.head_epochs
    epochs: int = Recipe.epochs
    batch_size: int = Recipe.batch_size
    objective: str = "macro_f1"
    sampler: str = DEFAULT_SAMPLER
    pruner: str = DEFAULT_PRUNER
    seed: int = 0
    space: Path | None = None
    given: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Session:
    """A study's settings with what they mean here: its search space, its weights file, whether it is new."""

    settings: StudySettings
    definition: Definition
    weights: str
    """`imagenet`, `none` or the path of the file."""
    is_new: bool
    notes: tuple[str, ...] = ()


def plan_session(storage: RDBStorage | None, prepared: PreparedSet, backbone: Backbone, options: RunOptions) -> Session:
    """What would be searched, without writing anything.

    Raises SearchError when a stored study of this name has other settings than asked for, ModelError or StudyError for
    weights or a space that make no sense.
    """
    weights = options.weights or default_weights(backbone)
    check_weights(backbone, weights)
    asked = read_definition(options.space, backbone.name, names())
    definition = asked.without_levels(prepared.levels)
    wanted = StudySettings(
        backbone=backbone.name,
        fingerprint=prepared.fingerprint,
        weights=weights_identity(weights),
        recipe=asdict(Recipe(options.head_epochs, options.epochs, options.batch_size)),
        objective=options.objective,
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
        space=definition.as_dict(),
    )
    existing = study_names(storage) if storage else []
    if storage is None or wanted.name not in existing:
        notes = () if definition == asked else ("augmentation choices that the prepared set lacks are left out",)
        return Session(wanted, definition, weights, True, notes + _earlier(storage, existing, backbone, prepared))
    stored = stored_settings(load_study(storage, wanted.name))
    merged = _following(stored, wanted, options.given)
    if changed := differences(stored, merged):
        raise SearchError(
            f"the study {stored.name} was made with other settings ({'; '.join(changed)}): leave these options out to "
            f"go on with it, or use another workspace"
        )
    if stored.weights not in (IMAGENET, UNTRAINED) and "weights" not in options.given:
        raise SearchError(f"the study {stored.name} was made with the weights {stored.weights}: name it by --weights")
    weights = weights if "weights" in options.given else stored.weights
    return Session(stored, definition_of(stored.space, asked.published), weights, False)


def _following(stored: StudySettings, wanted: StudySettings, given: frozenset[str]) -> StudySettings:
    """The settings wanted, with the stored ones wherever the user said nothing."""
    own = {key: getattr(stored, key) for key in ("weights", "objective", "sampler", "pruner", "seed", "space")}
    recipe = stored.recipe | {key: value for key, value in wanted.recipe.items() if key in given}
    return replace(wanted, recipe=recipe, **{key: value for key, value in own.items() if key not in given})


def _earlier(
    storage: RDBStorage | None, existing: list[str], backbone: Backbone, prepared: PreparedSet
) -> tuple[str, ...]:
    """A line for each study of this backbone on an earlier preparation."""
    lines = []
    for name in existing:
        assert storage is not None
        if name.startswith(f"{backbone.name}-"):
            done = counted(load_study(storage, name))
            lines.append(
                f"a new study, since the prepared set is another one ({prepared.fingerprint[:8]}) than that of "
                f"{name} ({done} trials), which stays readable"
            )
    return tuple(lines)


def weights_identity(weights: str) -> str:
    """`imagenet` and `none` as they are; a file by name and content, so that moving it changes nothing."""
    if weights in (IMAGENET, UNTRAINED):
        return weights
    path = Path(weights)
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def open_study(storage: RDBStorage, session: Session, say: Any) -> optuna.Study:
    """The session's study, made when it is new (the published hyperparameters are then queued as its first trial)."""
    settings, definition = session.settings, session.definition
    if session.is_new:
        study = create_study(storage, settings)
        if why := definition.why_not(definition.published) if definition.published else None:
            say(f"the published hyperparameters are skipped: {why} of the search space")
        elif definition.published:
            study.enqueue_trial(definition.searched(definition.published))
    else:
        study = load_study(storage, settings.name)
    head, tuning = head_epochs(session), settings.recipe["epochs"]
    # The head phase says little about the fine-tuning, and the first epochs of that are noise.
    study.pruner = PRUNERS[settings.pruner](head + tuning // UNPRUNED_SHARE, head + tuning)
    return study


def head_epochs(session: Session) -> int:
    """Epochs of the head phase, which a network without pretrained weights does not have."""
    return 0 if session.weights == UNTRAINED else int(session.settings.recipe["head_epochs"])


def job_maker(workspace: Workspace, session: Session) -> Any:
    """(trial number, hyperparameters, seed) -> TrainingJob for this session's study."""
    settings = session.settings

    def make(number: int, hyperparameters: Mapping[str, Any], seed: int) -> TrainingJob:
        return TrainingJob(
            prepared=str(workspace.prepared.resolve()),
            folder=str(trial_folder(workspace.trials, settings.name, number).resolve()),
            backbone=settings.backbone,
            weights=session.weights
            if session.weights in (IMAGENET, UNTRAINED)
            else str(Path(session.weights).resolve()),
            recipe=settings.recipe,
            objective=settings.objective,
            hyperparameters=dict(hyperparameters),
            seed=seed,
        )

    return make

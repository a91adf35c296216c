"""A stored study, from what a user calls it: its name, or that of a backbone whose latest study it is."""

from __future__ import annotations

import optuna
from optuna.storages import RDBStorage

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import BACKBONES, Backbone
from models.backbones.user_rows import asked_backbone
from search.errors import SearchError
from studies.settings import StudySettings, differences, stored_settings
from studies.storage import is_complete, load_study, study_names


def latest_study(storage: RDBStorage, backbone: str, fingerprint: str) -> optuna.Study | None:
    """The latest version of this backbone's study on this prepared set; None without any."""
    mine = versions(storage, backbone, fingerprint)
    return load_study(storage, mine[0].name) if mine else None


def versions(storage: RDBStorage, backbone: str, fingerprint: str) -> list[StudySettings]:
    """Of this backbone's studies on this prepared set, the latest first."""
    found = [load_study(storage, one) for one in study_names(storage)]
    whole = [stored_settings(study) for study in found if is_complete(study)]
    mine = [one for one in whole if (one.backbone, one.fingerprint) == (backbone, fingerprint)]
    return sorted(mine, key=lambda one: -one.version)


def study_here(storage: RDBStorage, prepared: PreparedSet, called: str) -> optuna.Study:
    """The study of this name, or of this backbone, on the prepared set.

    Args:
        called: a study's name, or what `run --backbone` takes: a name of the table, PATH.keras or module:function.

    SearchError when the backbone has none, or the study is of another prepared set or began from another file of that
    name; StudyError when there is none of that name, ModelError when there is no such file.
    """
    if not is_backbone(called):
        study = load_study(storage, called)
        check_is_here(stored_settings(study), prepared)
        return study
    row = asked_backbone(called)
    found = latest_study(storage, row.name, prepared.fingerprint)
    if found is not None:
        _check_is_own(stored_settings(found), row, called)
    else:
        raise SearchError(
            f"there is no study of {called} on this prepared set: `hpsearch run --backbone {called} --trials N` makes "
            f"one; what its first trials are can stand in its --space file under [[first]]"
        )
    return found


def is_backbone(called: str) -> bool:
    """Whether this is what `run --backbone` takes, rather than the name of a study."""
    return called in [row.name for row in BACKBONES] or called.endswith(".keras") or ":" in called


def _check_is_own(settings: StudySettings, row: Backbone, called: str) -> None:
    """SearchError when the study is of another network of the user's own that has the same name."""
    for key, what in (("sha256", "file"), ("function", "function")):
        if settings.own_backbone.get(key) != row.own.get(key):
            raise SearchError(
                f"the latest study of {row.name} on this prepared set, {settings.name}, began from another {what} than "
                f"{called}: name that one, or the study itself"
            )


def check_is_here(settings: StudySettings, prepared: PreparedSet) -> None:
    """SearchError when a study is bound to another prepared set, with what differs."""
    if settings.fingerprint != prepared.fingerprint:
        now = {key: prepared.manifest[key] for key in ("source", "settings", "versions")}
        changed = differences(settings.preparation, now) or ["the source's content"]
        raise SearchError(
            f"the study {settings.name} is bound to another prepared set (what differs: {'; '.join(changed)}): prepare "
            f"that one again"
        )

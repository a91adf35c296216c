"""A stored study, from what a user calls it: its name, or that of a backbone whose latest study it is."""

from __future__ import annotations

import optuna
from optuna.storages import RDBStorage

from data_prep.prepared import PreparedSet
from models.backbones import BACKBONES
from search.errors import SearchError
from studies.settings import StudySettings, differences, stored_settings
from studies.storage import is_complete, load_study, study_names


def latest_study(storage: RDBStorage, backbone: str, fingerprint: str) -> optuna.Study | None:
    """The latest version of this backbone's study on this prepared set; None without any."""
    found = [load_study(storage, one) for one in study_names(storage)]
    whole = [(study, stored_settings(study)) for study in found if is_complete(study)]
    mine = [(study, one) for study, one in whole if (one.backbone, one.fingerprint) == (backbone, fingerprint)]
    return max(mine, key=lambda pair: pair[1].version)[0] if mine else None


def study_here(storage: RDBStorage, prepared: PreparedSet, called: str) -> optuna.Study:
    """The study of this name, or of this backbone, on the prepared set.

    SearchError when the backbone has none, or the study is of another prepared set; StudyError when there is none of
    that name.
    """
    if called not in [row.name for row in BACKBONES]:
        study = load_study(storage, called)
        check_is_here(stored_settings(study), prepared)
        return study
    found = latest_study(storage, called, prepared.fingerprint)
    if found is None:
        raise SearchError(
            f"there is no study of {called} on this prepared set: `hpsearch run --backbone {called} --trials N` makes "
            f"one; what its first trials are can stand in its --space file under [[first]]"
        )
    return found


def check_is_here(settings: StudySettings, prepared: PreparedSet) -> None:
    """SearchError when a study is bound to another prepared set, with what differs."""
    if settings.fingerprint != prepared.fingerprint:
        now = {key: prepared.manifest[key] for key in ("source", "settings", "versions")}
        changed = differences(settings.preparation, now) or ["the source's content"]
        raise SearchError(
            f"the study {settings.name} is bound to another prepared set (what differs: {'; '.join(changed)}): prepare "
            f"that one again"
        )

"""Find a stored study by its name, or by the backbone whose latest study it is."""

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
    """Return the latest version of this backbone's study on this prepared set; None without any."""
    mine = versions(storage, backbone, fingerprint)
    return load_study(storage, mine[0].name) if mine else None


def versions(storage: RDBStorage, backbone: str, fingerprint: str) -> list[StudySettings]:
    """Return the settings of every version of this backbone's study on this prepared set, latest first.

    Studies whose making was cut off are left out.
    """
    found = [load_study(storage, one) for one in study_names(storage)]
    whole = [stored_settings(study) for study in found if is_complete(study)]
    mine = [one for one in whole if (one.backbone, one.fingerprint) == (backbone, fingerprint)]
    return sorted(mine, key=lambda one: -one.version)


def study_here(storage: RDBStorage, prepared: PreparedSet, called: str) -> optuna.Study:
    """Return the study with this name, or the latest study of this backbone, on the prepared set.

    Args:
        called: Name of a study, or a value of `run --backbone`: a name in the table of backbones, PATH.keras or
            module:function.

    Raises:
        SearchError: The backbone has no study here, or the study belongs to another prepared set or began from another
            file or function of the same name.
        StudyError: There is no study with this name.
        ModelError: There is no such file.
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
    """Return whether this is a value of `run --backbone`, not the name of a study."""
    return called in [row.name for row in BACKBONES] or called.endswith(".keras") or ":" in called


def _check_is_own(settings: StudySettings, row: Backbone, called: str) -> None:
    """Raise SearchError if the study is of another network of the user's own that has the same name."""
    for key, what in (("sha256", "file"), ("function", "function")):
        if settings.own_backbone.get(key) != row.own.get(key):
            raise SearchError(
                f"the latest study of {row.name} on this prepared set, {settings.name}, started from a different "
                f"{what} than {called}: name the original one, or name the study itself"
            )


def check_is_here(settings: StudySettings, prepared: PreparedSet) -> None:
    """Check that a study is bound to this prepared set.

    Raises:
        SearchError: It is bound to another one; the error names the differences.
    """
    if settings.fingerprint != prepared.fingerprint:
        now = {key: prepared.manifest[key] for key in ("source", "settings", "versions")}
        changed = differences(settings.preparation, now) or ["the source's content"]
        raise SearchError(
            f"the study {settings.name} is bound to another prepared set (differences: {'; '.join(changed)}): prepare "
            f"the images with the study's options again"
        )

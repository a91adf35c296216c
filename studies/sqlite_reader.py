"""Read studies directly from the SQLite file, for commands that only show them.

Optuna would be slower: importing it takes longer than reading all studies, and it goes through a thousand trials
several times. The queries match the tables of Optuna 5 (`optuna/storages/_rdb/models.py`).
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf, nan
from pathlib import Path
from typing import Any

from studies import records, replicates, settings
from studies.records import OptunaColumns, TrialRecord, make_record
from studies.replicates import FinishedReplicate
from studies.settings import StudySettings, identities, settings_from
from studies.sqlite_file import reading

NOT_FINITE = {"INF_POS": inf, "INF_NEG": -inf, "NAN": nan}
STUDIES = "SELECT study_id, study_name, value_json FROM studies LEFT JOIN study_user_attributes USING (study_id)"
# Trials, and their records without the epochs, which are the largest part and are not shown. A record with an infinite
# number is not valid JSON for SQLite, so it is read whole.
TRIALS = """
SELECT trial_id, number, lower(state), datetime_start, datetime_complete, value, value_type,
    CASE WHEN json_valid(text) THEN json_remove(text, '$.epochs') ELSE text END
FROM trials
LEFT JOIN trial_values USING (trial_id)
LEFT JOIN (
    SELECT trial_id, json_extract(value_json, '$') AS text FROM trial_user_attributes WHERE key = :key
) USING (trial_id)
WHERE study_id = :study ORDER BY trial_id
"""
REPORTED = """
SELECT trial_id, step, intermediate_value, intermediate_value_type FROM trial_intermediate_values
WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)
"""
# Hyperparameters of the trials whose record is not stored yet.
CHOSEN = """
SELECT trial_id, param_name, param_value, distribution_json FROM trial_params
WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)
AND trial_id NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = :key)
ORDER BY param_id
"""


@dataclass(frozen=True)
class StoredStudy:
    """A study that hpsearch created, as read from the database."""

    name: str
    """Name by which hpsearch knows the study and its files; a renaming in the dashboard leaves it alone."""
    settings: StudySettings
    records: tuple[TrialRecord, ...]
    """Trials in the order of their numbers; their epochs have only `step` and `value`."""
    retrained: tuple[FinishedReplicate, ...]
    """Finished replicates, as studies.replicates.replicates_of returns them."""
    title: str = ""
    """Name in the database: another than `name` if the study was renamed."""


def read_studies(path: Path) -> list[StoredStudy]:
    """Read all studies that hpsearch created, sorted by name; other studies in the file are skipped.

    Raises:
        StudyError: There is no database, or it cannot be read.
    """
    with reading(path) as connection:
        connection.execute("BEGIN")  # all queries see the same state, even if trials are stored meanwhile
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchone():
            return []  # another process is about to create the tables
        ids = dict(connection.execute("SELECT study_name, study_id FROM studies"))
        marked = connection.execute(f"{STUDIES} WHERE key = ?", (replicates.ORIGINAL,)).fetchall()
        marks = dict.fromkeys(ids) | {name: json.loads(text) for _, name, text in marked if text}
        made = connection.execute(f"{STUDIES} WHERE key = ? ORDER BY study_name", (settings.ATTRIBUTE,))
        stored = {name: settings_from(json.loads(text)) for _, name, text in made.fetchall()}
        known = identities(stored)
        found = [
            StoredStudy(
                known[name],
                own,
                tuple(_records(connection, ids[name])),
                tuple(_retrained(connection, ids.get(replicates.find_replicates(marks, known[name]) or ""))),
                title=name,
            )
            for name, own in stored.items()
        ]
        return sorted(found, key=lambda study: study.name)


def _records(connection: sqlite3.Connection, study: int) -> list[TrialRecord]:
    names = {"study": study, "key": records.ATTRIBUTE}
    reported: dict[int, dict[int, float]] = defaultdict(dict)
    for trial, step, value, kind in connection.execute(REPORTED, names):
        reported[trial][step] = NOT_FINITE.get(kind, value)
    chosen: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial, name, value, distribution in connection.execute(CHOSEN, names):
        chosen[trial][name] = _external(value, distribution)
    found = []
    for trial, number, state, started, ended, value, kind, text in connection.execute(TRIALS, names):
        times = (_local(started), _local(ended))
        columns = OptunaColumns(number, state, NOT_FINITE.get(kind, value), *times, reported[trial], chosen[trial])
        found.append(replace(make_record(columns, text), epochs=columns.epochs))
    return found


def _retrained(connection: sqlite3.Connection, study: int | None) -> list[FinishedReplicate]:
    rows = connection.execute(TRIALS, {"study": study, "key": replicates.ATTRIBUTE})
    return replicates.replicates_from_json(row[-1] for row in rows)


def _external(value: float, distribution: str) -> Any:
    """Return the value of a hyperparameter; Optuna stores a choice as its index among the choices."""
    attributes = json.loads(distribution)["attributes"]
    return attributes["choices"][int(value)] if "choices" in attributes else value


def _local(time: str | None) -> datetime | None:
    """Convert a stored UTC time to local time without a zone, as Optuna returns it."""
    return datetime.fromisoformat(time).replace(tzinfo=UTC).astimezone().replace(tzinfo=None) if time else None

"""Studies read straight from the SQLite file, for the commands that only show them: without Optuna, which takes longer
to start than all of them to read, and goes through a thousand trials several times.

The tables are those of Optuna 5 (`optuna/storages/_rdb/models.py`).
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
from studies.records import Columns, TrialRecord, make_record
from studies.replicates import FinishedReplicate, replicate_from_json
from studies.settings import StudySettings, settings_from
from studies.sqlite_file import check_exists, connected, opening

NOT_FINITE = {"INF_POS": inf, "INF_NEG": -inf, "NAN": nan}
STUDIES = "SELECT study_id, study_name, value_json FROM studies LEFT JOIN study_user_attributes USING (study_id)"
# A trial's record without the figures of its epochs, which are most of it and nowhere shown. Where it holds an infinite
# one, which SQLite does not know in JSON, it is read whole.
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
# Of the trials whose record is not stored yet.
CHOSEN = """
SELECT trial_id, param_name, param_value, distribution_json FROM trial_params
WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)
AND trial_id NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = :key)
ORDER BY param_id
"""


@dataclass(frozen=True)
class StoredStudy:
    """A study that hpsearch made, as it is stored."""

    name: str
    settings: StudySettings
    records: tuple[TrialRecord, ...]
    """In order of their numbers; of their epochs `step` and `value` alone."""
    retrained: tuple[FinishedReplicate, ...]
    """As studies.replicates.replicates_of."""


def read_studies(path: Path) -> list[StoredStudy]:
    """All that hpsearch made, by name; others that may be in the file are passed over.

    StudyError when there is no database, or it cannot be read.
    """
    check_exists(path)
    with opening(path), connected(path) as connection:
        connection.execute("BEGIN")  # all queries see one state, whatever is stored meanwhile
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchone():
            return []  # about to be made
        ids = dict(connection.execute("SELECT study_name, study_id FROM studies"))
        made = connection.execute(f"{STUDIES} WHERE key = ? ORDER BY study_name", (settings.ATTRIBUTE,))
        return [
            StoredStudy(
                name,
                settings_from(json.loads(text)),
                tuple(_records(connection, number)),
                tuple(_retrained(connection, ids.get(name + replicates.SUFFIX))),
            )
            for number, name, text in made.fetchall()
        ]


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
        columns = Columns(number, state, NOT_FINITE.get(kind, value), *times, reported[trial], chosen[trial])
        found.append(replace(make_record(columns, text), epochs=columns.epochs))
    return found


def _retrained(connection: sqlite3.Connection, study: int | None) -> list[FinishedReplicate]:
    rows = connection.execute(TRIALS, {"study": study, "key": replicates.ATTRIBUTE})
    return [replicate_from_json(row[-1]) for row in rows]


def _external(value: float, distribution: str) -> Any:
    """A hyperparameter as it was chosen; Optuna stores the place of a choice among the choices."""
    attributes = json.loads(distribution)["attributes"]
    return attributes["choices"][int(value)] if "choices" in attributes else value


def _local(time: str | None) -> datetime | None:
    """In local time without a zone, as Optuna gives it; stored in UTC."""
    return datetime.fromisoformat(time).replace(tzinfo=UTC).astimezone().replace(tzinfo=None) if time else None

"""Read from outside what became of trials: by SQL, and from files that trainings leave. Part of ../soak.py."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any


def rows_of(database: Path, study: str) -> list[dict[str, Any]]:
    """Return number, state, reported values and hyperparameters of each trial of a study, read by SQL."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        trials = connection.execute(
            "SELECT t.trial_id, t.number, t.state FROM trials t JOIN studies s USING (study_id) WHERE s.study_name = ? "
            "ORDER BY t.number",
            (study,),
        ).fetchall()
        reported: dict[int, list[tuple[int, float]]] = {}
        for row in connection.execute("SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"):
            reported.setdefault(row[0], []).append((row[1], row[2]))
        chosen: dict[int, dict[str, float]] = {}
        for row in connection.execute("SELECT trial_id, param_name, param_value FROM trial_params"):
            chosen.setdefault(row[0], {})[row[1]] = row[2]
    return [
        {
            "number": row["number"],
            "state": row["state"],
            "reported": [list(pair) for pair in sorted(reported.get(row["trial_id"], []))],
            "chosen": chosen.get(row["trial_id"], {}),
        }
        for row in trials
    ]


def study_of(workspace: Path) -> str:
    """Return the name of the workspace's only study."""
    with closing(sqlite3.connect(workspace / "studies.db")) as connection:
        return str(connection.execute("SELECT study_name FROM studies").fetchone()[0])


def records_of(workspace: Path) -> list[dict[str, Any]]:
    """Return the records that the trials of the workspace's only study left in the database, by trial number."""
    with closing(sqlite3.connect(workspace / "studies.db")) as connection:
        found = connection.execute(
            "SELECT a.value_json FROM trial_user_attributes a JOIN trials t USING (trial_id) WHERE a.key = 'hpsearch' "
            "ORDER BY t.number"
        ).fetchall()
    return [json.loads(json.loads(text)) for (text,) in found]


def finished_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {str(row["number"]): row for row in rows if row["state"] in ("COMPLETE", "PRUNED")}


def counts(rows: list[dict[str, Any]], earlier: dict[str, Any], total: int) -> dict[str, int]:
    """Return counts that must all be zero.

    Args:
        rows: Trials as `rows_of` returns them.
        earlier: Finished trials as earlier calls of `finished_rows` returned them.
        total: Trials that the runs were asked for.
    """
    now = {str(row["number"]): row for row in rows}
    finished = [row for row in rows if row["state"] in ("COMPLETE", "PRUNED")]
    steps = [[step for step, _ in row["reported"]] for row in finished]
    return {
        "trials lost": sum(number not in now for number in earlier) + sum(not one for one in steps),
        "trials repeated": len(rows) - len({row["number"] for row in rows}),
        "trials altered": sum(now.get(number) != row for number, row in earlier.items())
        + sum(one != list(range(len(one))) for one in steps),
        "trials stuck": sum(row["state"] in ("RUNNING", "WAITING", "FAIL") for row in rows),
        "beyond the total": abs(len(finished) - total),
    }


def tracebacks(logs: Iterator[Path]) -> int:
    return sum(path.read_text(errors="replace").count("Traceback (most recent call last)") for path in logs)

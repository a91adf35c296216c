"""`hpsearch status`."""

from __future__ import annotations

import click

from search.engine.claims import Claims
from search.terminal.durations import duration
from search.workspace import Workspace
from studies.shared_files import may_write
from studies.sqlite_file import can_write
from studies.sqlite_reader import StoredStudy, read_studies
from studies.trial_tables import cache_text, foreign_note, status_row, training_text

STATES = ("complete", "pruned", "fail", "running", "cut_off", "waiting")
COLUMNS = ("study", *STATES, "epochs", "time", "objective", "best_value", "best_trial")

LEAST = ("epochs", "objective", "waiting", "cut_off", "time", "best_trial", "fail", "running", "pruned", "complete")
"""Columns that a narrow terminal leaves out, the least important first, after those of states that no trial is in."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(workspace: Workspace, as_json: bool) -> None:
    """Show the studies: trials by state, epochs, time and the best value of each.

    \b
    hpsearch status
    hpsearch status --json

    Waiting trials were enqueued, and cut-off ones were interrupted; the next run takes both first. Failed trials are
    counted by kind: diverged, out-of-memory, timeout, killed, refused or bug.
    """
    from search.terminal.output import print_json, print_table

    studies = read_studies(workspace.database)
    changed = [_put_back(workspace, study) for study in studies]
    if any(changed):
        studies = read_studies(workspace.database)
    rows = [status_row(study) for study in studies]
    if as_json:
        print_json(rows)
        return
    for study, row in zip(studies, rows, strict=True):
        if study.title not in ("", study.name):
            click.echo(f"{study.name} is called {study.title} in the dashboard")
        row["time"] = duration(row["seconds"])
    idle = [state for state in reversed(STATES[1:]) if not any(row[state] for row in rows)]
    print_table(rows, COLUMNS, least=(*idle, *LEAST))
    for study, row in zip(studies, rows, strict=True):
        if (cache := row["prefix_cache"])["served"]:
            click.echo(
                f"{row['study']}: what frozen layers gave had been kept for {cache['views']:.0%} of the views that "
                f"trials saw, in {cache['served']} of {cache['trials']} trials"
            )
        for text in filter(None, (training_text(study.settings), cache_text(study.settings))):
            click.echo(f"{study.name}: {text}")
        if note := foreign_note(study):
            click.echo(note)
        if row["failures"]:
            click.echo(f"{row['study']}: " + ", ".join(f"{count} {kind}" for kind, count in row["failures"].items()))


def _put_back(workspace: Workspace, study: StoredStudy) -> bool:
    """Turn running trials whose process is gone into waiting ones. Return whether there were any."""
    running = [record.number for record in study.records if record.state == "running"]
    if not running or not (can_write(workspace.database) and may_write(workspace.trials / study.name)):
        return False
    claims = Claims(workspace.trials / study.name)
    with claims.deciding():
        if not any(map(claims.is_free, running)):
            return False
        from studies.storage import existing_storage, load_study  # Optuna, which alone changes what is stored
        from studies.trials import put_back_orphans

        put_back_orphans(load_study(existing_storage(workspace.database), study.name), claims.is_free)
    return True

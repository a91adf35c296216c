"""`hpsearch status`."""

from __future__ import annotations

import click
import optuna

from search.claims import Claims
from search.output import print_json, print_table
from search.progress import duration
from search.workspace import Workspace
from studies.records import put_back_orphans
from studies.storage import existing_storage, load_study, study_names
from studies.tables import status_row

STATES = ("complete", "pruned", "fail", "running", "cut_off", "waiting")
COLUMNS = ("study", *STATES, "epochs", "time", "best_value", "best_trial")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(workspace: Workspace, as_json: bool) -> None:
    """Show what ran and what it cost: trials by state, epochs, time and the best value of each study.

    \b
    hpsearch status --json

    Cut off are trials whose run ended before they did; they are among the waiting ones, and the next run goes on with
    them. Trials that failed are counted by kind: diverged, out-of-memory, timeout, killed, refused or bug.
    """
    storage = existing_storage(workspace.database)
    rows = [status_row(_settled(workspace, load_study(storage, name))) for name in study_names(storage)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["time"] = duration(row["seconds"])
    print_table(rows, COLUMNS)
    for row in rows:
        if row["failures"]:
            click.echo(f"{row['study']}: " + ", ".join(f"{count} {kind}" for kind, count in row["failures"].items()))


def _settled(workspace: Workspace, study: optuna.Study) -> optuna.Study:
    """Running trials whose process is gone are put back first: they do not run."""
    claims = Claims(workspace.trials / study.study_name)
    with claims.deciding():
        put_back_orphans(study, claims.is_free)
    return study

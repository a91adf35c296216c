"""`hpsearch status`."""

from __future__ import annotations

import click

from search.output import print_json, print_table
from search.progress import duration
from search.workspace import Workspace
from studies.storage import existing_storage, load_study, study_names
from studies.tables import status_row

COLUMNS = ("study", "complete", "pruned", "fail", "running", "waiting", "epochs", "time", "best_value", "best_trial")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(workspace: Workspace, as_json: bool) -> None:
    """Show what ran and what it cost: trials by state, epochs, time and the best value of each study.

    \b
    hpsearch status --json
    """
    storage = existing_storage(workspace.database)
    rows = [status_row(load_study(storage, name)) for name in study_names(storage)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["time"] = duration(row["seconds"])
    print_table(rows, COLUMNS)
    for row in rows:
        if row["failures"]:
            click.echo(f"{row['study']}: " + ", ".join(f"{count} {kind}" for kind, count in row["failures"].items()))

"""`hpsearch compare`."""

from __future__ import annotations

import click

from search.output import print_json, print_table
from search.progress import short
from search.workspace import Workspace, current_fingerprint
from studies.storage import existing_storage, load_study, study_names
from studies.tables import COMPARED, compare_row


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, hyperparameters included.")
@click.pass_obj
def compare(workspace: Workspace, as_json: bool) -> None:
    """Show the best trial of each study side by side, by its figures on the validation images.

    \b
    hpsearch compare
    """
    storage = existing_storage(workspace.database)
    found = [compare_row(load_study(storage, name)) for name in study_names(storage)]
    current = current_fingerprint(workspace)
    rows = sorted((row for row in found if row), key=lambda row: (row["fingerprint"] != current, -row["macro_f1"]))
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("No trial is complete yet.")
        return
    print_table(rows, ("backbone", "study", "trial", *COMPARED, "parameters", "ms_per_image"))
    if others := [row["study"] for row in rows if row["fingerprint"] != current]:
        click.echo(f"On another preparation, so on other validation images, not to be compared: {', '.join(others)}")
    for row in rows:
        chosen = ", ".join(f"{key} {short(value)}" for key, value in row["hyperparameters"].items())
        click.echo(f"{row['backbone']} trial {row['trial']}: {chosen}")

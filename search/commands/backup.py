"""`hpsearch backup`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from search.workspace import Workspace
from studies.sqlite_file import backup_database, check_exists


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.pass_obj
def backup(workspace: Workspace, out: Path | None) -> None:
    """Copy the studies to the file OUT. By default it lies in the workspace's `backups/`, with the time in its name.

    \b
    hpsearch backup /media/stick/studies.db

    Runs may continue meanwhile. To restore a copy while nothing runs, put it in the place of the workspace's
    `studies.db`, and remove `studies.db-wal` and `studies.db-shm` beside it. Weights are not part of the copy; they lie
    in `trials/`.
    """
    check_exists(workspace.database)
    target = out or workspace.folder / "backups" / f"studies-{datetime.now():%Y%m%d-%H%M%S}.db"
    if target.exists():
        raise click.BadParameter(f"{target} exists; name another file", param_hint="OUT")
    backup_database(workspace.database, target)
    click.echo(f"{target}: {target.stat().st_size / 1e6:.1f} MB")

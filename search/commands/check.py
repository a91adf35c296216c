"""`hpsearch check`."""

from __future__ import annotations

import click

from search.stages import Stages
from search.workspace import Workspace


@click.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Re-verify the prepared set from its files: checksums, leaks between the splits, augmented views outside training.

    \b
    hpsearch check

    Looks at pixels, so it also finds what was altered together with its checksum. Exit code 1 when something is wrong.
    """
    from data_prep.check import check as look

    workspace: Workspace = ctx.obj
    with Stages() as stages:
        problems = look(workspace.prepared, stages)
    for problem in problems:
        click.echo(problem)
    if problems:
        click.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {workspace.prepared}.")
        ctx.exit(1)
    click.echo(f"{workspace.prepared} is sound.")

"""`hpsearch demo`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time

import click

from search.terminal.durations import duration
from search.workspace import Workspace

TRIALS, EPOCHS = 14, 12
SPLIT = "60/20/20"  # of so few images, more than usual are needed to measure on


@click.command(context_settings={"show_default": True})
@click.option("-n", "--trials", type=click.IntRange(1), default=TRIALS, help="Trials of the search.")
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, help="Epochs of a trial, at most.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the demo set and of the search.")
@click.pass_context
def demo(ctx: click.Context, /, trials: int, epochs: int, seed: int) -> None:
    """Go the whole way on the built-in set of drawn cells: prepare, run, compare, export-best.

    \b
    hpsearch demo

    Works in the folder hpsearch-demo unless another is named; called again, it goes on where it stopped.
    """
    workspace: Workspace = ctx.obj
    started = time.monotonic()
    search = f"run --backbone small_cnn --trials {trials} --epochs {epochs} --seed {seed}"
    for step in (f"prepare demo --seed {seed} --split {SPLIT}", search, "compare", "export-best"):
        code = _hpsearch(workspace, step.split())
        if code:
            ctx.exit(code)
    hpsearch = "hpsearch" if shutil.which("hpsearch") else sys.argv[0]  # not on the path after `make demo`
    click.echo(f"""
The demo took {duration(time.monotonic() - started)}. Where the results are:
  {workspace.prepared / "report.html"}   what was cleaned out, the split, the augmented views
  {workspace.exports}/   the winner: model.keras, labels.json, metrics.json, README.md
To browse the trials:  {hpsearch} -w {shlex.quote(str(workspace.folder))} dashboard""")


def _hpsearch(workspace: Workspace, arguments: list[str]) -> int:
    """One command, as a user would give it, in a process of its own: its exit code."""
    click.echo()
    click.secho(f"$ hpsearch -w {workspace.folder} {' '.join(arguments)}", bold=True)
    sys.stdout.flush()
    process = subprocess.Popen([sys.executable, "-P", "-m", "search", "-w", str(workspace.folder), *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal tells the child too, which ends by itself
        return process.wait()

"""`hpsearch demo`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time

import click

from search.engine.own_python import own_module
from search.planning.demo_size import BACKBONE, FULL, FULL_STEP_MS, SHORT, SIZES, demo_step_ms, size_of_started
from search.terminal.durations import duration
from search.workspace import Workspace

SPLIT = "60/20/20"  # of so few images, more than usual are needed to measure on


@click.command()
@click.option(
    "--size",
    type=click.Choice(list(SIZES)),
    help="Size of the search: full (14 trials of 12 epochs) or short (8 of 6).  [default: by one timed training step]",
)
@click.option("-n", "--trials", type=click.IntRange(1), help="Trials of the search.  [default: by --size]")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of a trial, at most.  [default: by --size]")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the demo set and of the search."
)
@click.pass_context
def demo(ctx: click.Context, /, size: str | None, trials: int | None, epochs: int | None, seed: int) -> None:
    """Run prepare, run, compare and export-best on a built-in set of drawn cells.

    \b
    hpsearch demo
    hpsearch demo --size full

    The results lie in the folder hpsearch-demo, unless -w names another. Called again, the demo continues where it
    stopped. One timed training step decides whether the full search would take more than three minutes; if so, it runs
    the short one.
    """
    workspace: Workspace = ctx.obj
    started = time.monotonic()
    steps = [f"prepare demo --seed {seed} --split {SPLIT}", _search(workspace, size, trials, epochs, seed)]
    for step in (*steps, "compare", "export-best"):
        code = _hpsearch(workspace, step.split())
        if code:
            ctx.exit(code)
    hpsearch = "hpsearch" if shutil.which("hpsearch") else sys.argv[0]  # not on the path after `make demo`
    click.echo(f"""
The demo took {duration(time.monotonic() - started)}. Where the results are:
  {workspace.prepared / "report.html"}   what was cleaned out, the split, the augmented views
  {workspace.exports}/   the winner: model.keras, labels.json, metrics.json, README.md
To browse the trials:  {hpsearch} -w {shlex.quote(str(workspace.folder))} dashboard""")


def _search(workspace: Workspace, size: str | None, trials: int | None, epochs: int | None, seed: int) -> str:
    """Return the demo's `run` command; choose the size of the search where the options leave it open."""
    if trials is None or epochs is None:
        chosen = SIZES[size or size_of_started(workspace) or _timed_size()]
        trials, epochs = trials or chosen.trials, epochs or chosen.epochs
    return f"run --backbone {BACKBONE} --trials {trials} --epochs {epochs} --seed {seed}"


def _timed_size() -> str:
    click.echo("Timing one training step ...")
    step_ms = demo_step_ms()
    size = FULL if step_ms <= FULL_STEP_MS else SHORT
    click.echo(
        f"A step takes {step_ms:.0f} ms, and the {FULL} search needs at most {FULL_STEP_MS:.0f} ms to end within three "
        f"minutes: this is the {size} one, {SIZES[size].trials} trials of at most {SIZES[size].epochs} epochs."
    )
    return size


def _hpsearch(workspace: Workspace, arguments: list[str]) -> int:
    """Run one command in a process of its own, as a user would, and return its exit code."""
    from search.terminal.output import IN_DEMO

    click.echo()
    click.secho(f"$ hpsearch -w {workspace.folder} {' '.join(arguments)}", bold=True)
    sys.stdout.flush()
    process = subprocess.Popen(
        own_module("search", "-w", str(workspace.folder), *arguments), env=os.environ | {IN_DEMO: "1"}
    )
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal tells the child too, which ends by itself
        return process.wait()

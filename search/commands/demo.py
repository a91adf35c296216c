"""`hpsearch demo`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from data_prep.prepared import PreparedSet
from data_prep.settings import PrepareSettings
from models.backbones import backbone_named
from search.commands.compare import compare
from search.commands.export_best import show
from search.commands.prepare import prepare_shown, show_outcome
from search.commands.run import run_backbones
from search.exporting import export, find_winner
from search.output import console
from search.progress import duration
from search.sessions import RunOptions
from search.workspace import DEFAULT_FOLDER, Workspace

DEMO_FOLDER = "hpsearch-demo"
TRIALS, EPOCHS = 12, 12


@click.command(context_settings={"show_default": True})
@click.option("-n", "--trials", type=click.IntRange(1), default=TRIALS, help="Trials of the search.")
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, help="Epochs of a trial, at most.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the demo set and of the search.")
@click.pass_context
def demo(ctx: click.Context, trials: int, epochs: int, seed: int) -> None:
    """Go the whole way on the built-in set of drawn cells: prepare, run, compare, export-best.

    \b
    hpsearch demo

    Works in the folder hpsearch-demo unless -w names another; called again, it goes on where it stopped.
    """
    workspace: Workspace = ctx.obj
    if workspace.folder == Path(DEFAULT_FOLDER):
        workspace = Workspace(Path(DEMO_FOLDER))
    started, out = time.monotonic(), console()
    _title(f"hpsearch -w {workspace.folder} prepare demo --seed {seed}")
    show_outcome(prepare_shown(PrepareSettings("demo", seed=seed), workspace), workspace)
    _title(f"hpsearch -w {workspace.folder} run --backbone small_cnn --trials {trials} --epochs {epochs} --seed {seed}")
    options = RunOptions(trials=trials, epochs=epochs, seed=seed, given=frozenset({"epochs", "seed"}))
    run_backbones(workspace, [backbone_named("small_cnn")], options, out)
    _title(f"hpsearch -w {workspace.folder} compare")
    ctx.obj = workspace
    ctx.invoke(compare, as_json=False)
    _title(f"hpsearch -w {workspace.folder} export-best")
    prepared = PreparedSet.open(workspace.prepared)
    winner = find_winner(workspace, prepared, None)
    target = workspace.exports / f"{winner.settings.name}-trial-{winner.record.number}"
    with workspace.shared():
        show(export(workspace, prepared, winner, target))
    click.echo(f"""
The demo took {duration(time.monotonic() - started)}. Where the results are:
  {workspace.prepared / "report.html"}   what was cleaned out, the split, the augmented views
  {target}/   the winner: model.keras, labels.json, metrics.json, README.md
To browse the trials:  hpsearch -w {workspace.folder} dashboard""")


def _title(command: str) -> None:
    click.echo()
    click.secho(f"$ {command}", bold=True)

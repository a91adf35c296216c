"""`hpsearch rerun`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.workspace import Workspace

if TYPE_CHECKING:
    from search.winners.rerun import Comparison

TOLERANCE = 1e-6


@click.command(context_settings={"show_default": True})
@click.argument("study")
@click.argument("trial", type=click.IntRange(0))
@click.option("--tolerance", type=click.FloatRange(0), default=TOLERANCE, help="Largest difference to accept.")
@click.option("--weights", help="File of the pretrained weights, if the study used one.")
@click.option("--restore", is_flag=True, help="If the figures match, put a complete trial's weights back.")
@click.pass_context
def rerun(ctx: click.Context, /, study: str, trial: int, tolerance: float, weights: str | None, restore: bool) -> None:
    """Train a finished trial again, and compare its figures with the stored ones. Exit code 1 if they differ.

    \b
    hpsearch rerun efficientnetv2s-1a2b3c4d 7
    hpsearch rerun efficientnetv2s 7 --restore

    STUDY is the name of a study, or a backbone as `run --backbone` takes it, which stands for its latest study. The
    trial is trained with its own seed and hyperparameters; a pruned one up to the epoch where it was pruned. The stored
    study is not changed. On a CPU, the same versions and number of threads give identical results. On a GPU they do
    not: give a --tolerance such as 0.01.

    --restore puts back weights that were removed (see `run --keep`), so that `export-best --trial` can use them.
    """
    from data_prep.storage.reader import PreparedSet
    from search.engine.job import trial_folder
    from search.engine.worker import Worker
    from search.planning.stored_studies import study_here
    from search.terminal.output import counted
    from search.winners.finished_trial import finished_trial
    from search.winners.rerun import rerun_trial
    from search.winners.rerun import restore as put_back
    from studies.storage import existing_storage

    workspace: Workspace = ctx.obj
    prepared = PreparedSet.open(workspace.prepared)
    with workspace.shared():
        storage = existing_storage(workspace.database)
        found = study_here(storage, prepared, study)
        one = finished_trial(workspace, storage, found, trial, weights)
        record = one.record
        click.echo(
            f"trial {record.number} of {one.settings.name}, {record.state} after {counted(len(record.epochs), 'epoch')}"
        )
        with _scratch(workspace) as scratch:
            worker = Worker(workspace.cache / "rerun.log")
            try:
                comparison = rerun_trial(one, worker, scratch, click.echo)
            finally:
                worker.stop()
            matches = comparison.largest <= tolerance
            _show(comparison, tolerance)
            if not matches:
                _show_noise(workspace, one.settings.name, comparison)
            if restore and matches and record.state == "complete":
                put_back(scratch, trial_folder(workspace.trials, one.settings.name, trial))
                click.echo("its weights are back; the next run keeps them if the trial is among its --keep best")
    ctx.exit(0 if matches else 1)


@contextmanager
def _scratch(workspace: Workspace) -> Iterator[Path]:
    workspace.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.cache, prefix="rerun-") as folder:
        yield Path(folder)


def _show(found: Comparison, tolerance: float) -> None:
    from search.terminal.output import print_table

    rows = [
        {"figure": row.figure, "values": row.values, "largest_difference": f"{row.largest_difference:.1e}"}
        for row in found.rows
    ]
    print_table(rows, ("figure", "values", "largest_difference"))
    bits = "the same bits in its weights" if found.same_bits else "other bits in its weights"
    if found.largest <= tolerance:
        click.echo(f"the figures match within {tolerance:g}: {bits}")
    else:
        click.echo(f"the figures differ by up to {found.largest:.2g}, more than {tolerance:g}: {bits}")


def _show_noise(workspace: Workspace, study: str, found: Comparison) -> None:
    """Print how much of the difference another seed would explain."""
    from search.winners.ties import BY_RULE, BY_SEEDS, SEED_NOISE, TIE_STANDARD_ERRORS
    from studies.replicates import seed_noise
    from studies.sqlite_reader import read_studies

    (stored,) = (one for one in read_studies(workspace.database) if one.name == study)
    measured = seed_noise(stored.retrained, stored.settings.objective)
    noise, source = (SEED_NOISE, BY_RULE) if measured is None else (measured, BY_SEEDS)
    limit = TIE_STANDARD_ERRORS * sqrt(2) * noise
    difference = found.rows[0].largest_difference
    verdict = "within" if difference <= limit else "more than"
    click.echo(
        f"its value differs by {difference:.4f}, {verdict} the {limit:.4f} by which two seeds may differ ({source})"
    )

"""`hpsearch run`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from data_prep.prepared import PreparedSet
from models.backbones import IMAGENET, Backbone, backbone_named
from models.errors import ModelError
from models.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from models.recipe import Recipe
from search.errors import SearchError
from search.loop import Search
from search.output import console, print_table
from search.progress import observing
from search.retraining import Confirmation, Retrainer, summary
from search.sessions import RunOptions, Session, job_maker, open_study, plan_session
from search.workers import Worker, WorkerDiedError
from search.workspace import Workspace
from studies.records import best_record, records_of
from studies.samplers import DEFAULT_PRUNER, DEFAULT_SAMPLER, PRUNERS, SAMPLERS
from studies.settings import study_name
from studies.storage import existing_storage, load_study, open_storage

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def _confirm(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int]:
    """3x3 as two numbers: trials, and seeds for each."""
    if value is None:
        return 0, 0
    top, cross, seeds = value.partition("x")
    if not (cross and top.isdecimal() and seeds.isdecimal() and int(top) and int(seeds)):
        raise click.BadParameter(f"{value!r} must be trials x seeds, such as 3x3")
    return int(top), int(seeds)


@click.command(context_settings={"show_default": True})
@click.option("-b", "--backbone", "backbones", multiple=True, required=True, help="May be repeated; see `backbones`.")
@click.option("-n", "--trials", type=click.IntRange(1), default=20, help="Complete and pruned trials in all, a study.")
@click.option("--weights", help="imagenet, none or a file.  [default: imagenet where there are any]")
@click.option("--space", default="default", help="Search space: default, robust, or a TOML file.")
@click.option("--objective", type=click.Choice(list(OBJECTIVES)), default=DEFAULT_OBJECTIVE, help="What is maximized.")
@click.option("--head-epochs", type=click.IntRange(0), default=Recipe.head_epochs, help="Epochs of the new head alone.")
@click.option("--epochs", type=click.IntRange(1), default=Recipe.epochs, help="Epochs of fine-tuning, at most.")
@click.option("--batch-size", type=click.IntRange(1), default=Recipe.batch_size, help="Images a training step.")
@click.option("--sampler", type=click.Choice(list(SAMPLERS)), default=DEFAULT_SAMPLER, help="Who proposes.")
@click.option("--pruner", type=click.Choice(list(PRUNERS)), default=DEFAULT_PRUNER, help="Who ends poor trials early.")
@click.option("--confirm", callback=_confirm, metavar="KxS", help="Train the best K trials again on S other seeds.")
@click.option("--folds", type=click.IntRange(2, 20), help="Cross-validate the best trial on so many parts.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of sampler, weights and batches.")
@click.pass_context
def run(
    ctx: click.Context, /, backbones: tuple[str, ...], confirm: tuple[int, int], folds: int | None, **options: Any
) -> None:
    """Search for the best fine-tuning of each backbone: one study each, --trials trials each.

    \b
    hpsearch run --backbone efficientnetv2s --trials 50
    hpsearch run --backbone vgg19 --backbone resnet101v2 --trials 20

    The same command again goes on where it stopped. Settings that a study fixed when it was made are kept;
    another value for one of them is refused.

    The best of many trials is also the luckiest. --confirm 3x3 trains the best 3 again on 3 other seeds and shows mean
    and spread; --folds 5 cross-validates the best one: the training images are divided by group into 5 parts, each held
    out in turn and scored, originals and corrupted views. export-best then takes the trial with the best mean.
    """
    given = frozenset(name for name in options if ctx.get_parameter_source(name) != ParameterSource.DEFAULT)
    chosen = RunOptions(**options, confirmation=Confirmation(*confirm, folds or 0), given=given)
    workspace: Workspace = ctx.obj
    rows = []
    for name in dict.fromkeys(backbones):
        try:
            rows.append(backbone_named(name))
        except ModelError as error:
            raise click.BadParameter(str(error), param_hint="--backbone") from error
    out = console()
    try:
        run_backbones(workspace, rows, chosen, out)
    except KeyboardInterrupt:
        out.print("\nInterrupted: finished trials are stored, and the same command goes on.")
        ctx.exit(INTERRUPTED)


def run_backbones(workspace: Workspace, rows: list[Backbone], options: RunOptions, out: Console) -> None:
    """All studies, one after the other. Every network is planned and built first, so that a mistake in the last does
    not show after hours of work on the others."""
    PreparedSet.open(workspace.prepared)  # says so where there is no workspace, before one is made for its lock
    with workspace.shared():
        for backbone in rows:
            with _planned(workspace, backbone, options) as (session, worker):
                download = " (its weights are downloaded the first time)" if session.weights == IMAGENET else ""
                out.print(f"building {backbone.name}{download}", markup=False)
                _describe(worker, workspace, session)
                if len(rows) == 1:
                    _search(workspace, session, worker, options, out)
        for backbone in rows if len(rows) > 1 else ():
            with _planned(workspace, backbone, options) as (session, worker):
                _search(workspace, session, worker, options, out)


@contextmanager
def _planned(workspace: Workspace, backbone: Backbone, options: RunOptions) -> Iterator[tuple[Session, Worker]]:
    """A session and its worker, while nobody else works on the study."""
    prepared = PreparedSet.open(workspace.prepared)
    name = study_name(backbone.name, prepared.fingerprint)
    worker = Worker(workspace.trials / name / "worker.log")
    with workspace.study(name):
        storage = existing_storage(workspace.database) if workspace.database.is_file() else None
        session = plan_session(storage, prepared, backbone, options)
        try:
            yield session, worker
        finally:
            worker.stop()


def _search(workspace: Workspace, session: Session, worker: Worker, options: RunOptions, out: Console) -> None:
    settings = session.settings
    for note in session.notes:
        out.print(note, markup=False, soft_wrap=True)
    out.print(
        f"study {settings.name}{' (new)' if session.is_new else ''}: weights {settings.weights}, at most "
        f"{session.most_epochs} epochs a trial",
        markup=False,
    )
    study = open_study(open_storage(workspace.database), session, lambda line: out.print(line, markup=False))
    best = best_record(records_of(study))
    with observing(out, settings.backbone, options.trials, session.most_epochs, best) as observer:
        Search(study, settings, session.definition, worker, job_maker(workspace, session), observer).run(options.trials)
    if options.confirmation != Confirmation():
        _confirm_best(workspace, session, worker, options.confirmation, out)


def _confirm_best(workspace: Workspace, session: Session, worker: Worker, wanted: Confirmation, out: Console) -> None:
    """Trains the best trials again and shows what came of it."""
    storage, settings = open_storage(workspace.database), session.settings
    study = load_study(storage, settings.name)

    def say(line: str) -> None:
        out.print(line, markup=False, soft_wrap=True)

    Retrainer(storage, study, settings, worker, job_maker(workspace, session), say).run(wanted)
    for rows in summary(storage, settings, records_of(study)):
        if rows:
            print_table(rows, tuple(rows[0]))


def _describe(worker: Worker, workspace: Workspace, session: Session) -> None:
    """Builds the network, which finds missing weights before a study is made. Leaves no trace when it cannot be built.

    SearchError with the reason.
    """
    job = job_maker(workspace, session)(0, {}, 0)
    try:
        worker.describe({key: getattr(job, key) for key in ("prepared", "backbone", "weights")})
    except WorkerDiedError:
        raise  # its log is named in the message
    except SearchError:
        if session.is_new:
            worker.log.unlink(missing_ok=True)
        raise

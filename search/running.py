"""One call of `hpsearch run`: its studies searched one after the other, or what they would take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from rich.console import Console

from data_prep.prepared import PreparedSet
from models.arithmetic import FLOAT32
from models.backbones import IMAGENET, Backbone
from search.choosing import choose, with_choice
from search.claims import Claims
from search.dry_run import RULE, DryRun, scratch_folder, show
from search.durations import duration
from search.errors import SearchError
from search.estimate import moved_fractions
from search.job import DESCRIBED
from search.leaving import Leaving
from search.loop import Search
from search.output import print_table
from search.progress import observing
from search.retention import Retention
from search.retraining import Confirmation, Retrainer, summary
from search.run_options import RunOptions
from search.sessions import Session, job_maker, open_study, plan_session
from search.warm_start import Hints
from search.workers import Worker, WorkerDiedError
from search.workspace import Workspace
from studies.records import best_record, records_of
from studies.settings import StudySettings
from studies.storage import existing_storage, load_study, open_storage
from studies.trials import counted


@dataclass(frozen=True)
class Limits:
    """What this call of `run` may take; another call on the same study may have others."""

    time_budget_s: float | None
    trial_timeout_s: float | None
    keep: int
    """Trials whose weights are kept."""
    disk_budget_gb: float | None
    memory_limit_gb: float | None
    fresh_workers: bool
    """A new training process for each trial."""


@dataclass(frozen=True)
class Run:
    """One call of the command."""

    workspace: Workspace
    options: RunOptions
    limits: Limits
    leaving: Leaving
    out: Console
    hints: Hints | None = None
    """Of `--warm-start`."""

    def say(self, line: str) -> None:
        self.out.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def worker(self, study: str, folder: Path | None = None) -> Iterator[Worker]:
        """`folder`: for its log, where that is not to lie with the study's trials."""
        limit_mb = int(1000 * self.limits.memory_limit_gb) if self.limits.memory_limit_gb else None
        log = (folder or self.workspace.trials / study) / "worker.log"
        worker = Worker(log, memory_limit_mb=limit_mb, fresh=self.limits.fresh_workers)
        try:
            yield worker
        finally:
            worker.stop()


def run_backbones(run: Run, rows: list[Backbone]) -> None:
    """All studies, one after the other. Every network is planned and built first, so that a mistake in the last does
    not show after hours of work on the others."""
    _check(run)  # before a workspace is made for its lock
    with run.workspace.shared():
        for backbone in rows:
            session = _planned(run, backbone)
            with run.worker(session.settings.name) as worker:
                download = " (its weights are downloaded the first time)" if session.weights == IMAGENET else ""
                run.say(f"building {backbone.name}{download}")
                if note := moved_fractions(session, _cut_fractions(worker, run.workspace, session, backbone)):
                    run.say(note)
                if len(rows) == 1:
                    _search(run, backbone, worker)
        for backbone in rows if len(rows) > 1 else ():
            if run.leaving.wanted:
                return
            with run.worker(_planned(run, backbone).settings.name) as worker:
                _search(run, backbone, worker)


def estimate_backbones(run: Run, rows: list[Backbone]) -> None:
    """What each study would take, without making it."""
    _check(run)
    again, database = run.options.confirmation, run.workspace.database
    totals_s = []
    with run.workspace.shared():
        for backbone, session in [(backbone, _planned(run, backbone)) for backbone in rows]:
            name = session.settings.name
            done = 0 if session.is_new else counted(load_study(existing_storage(database), name))
            trials = max(0, run.options.trials - done) + again.top * again.seeds + again.folds
            run.say(f"timing {name}{' (new)' if session.is_new else ''}, at most {session.most_epochs} epochs a trial")
            with (
                _kept_backbone(run, backbone),
                scratch_folder(run.workspace) as scratch,
                run.worker(name, scratch) as worker,
            ):
                chosen = with_choice(session, choose(worker, run.workspace, session, run.options, run.say))
                dry = DryRun(run.workspace, chosen, trials, run.limits.keep, run.limits.fresh_workers)
                totals_s.append(show(dry.forecast(worker, scratch), run.workspace, run.say))
    if len(rows) > 1:
        run.say(f"all studies: about {duration(sum(totals_s))}")
    run.say(RULE)


def _check(run: Run) -> None:
    """DataError where there is no prepared set, or one that cannot be divided into the folds that are wanted."""
    prepared = PreparedSet.open(run.workspace.prepared)
    if run.options.confirmation.folds:
        from data_prep.folds import check_folds  # with scikit-learn, which takes a while

        check_folds(prepared, run.options.confirmation.folds)


@contextmanager
def _kept_backbone(run: Run, backbone: Backbone) -> Iterator[None]:
    """The file of a user's own backbone in the workspace, as long as it is needed."""
    new_copy = run.workspace.keep_backbone(backbone.options.get("path", ""), backbone.own)
    try:
        yield
    finally:
        if new_copy:
            new_copy.unlink()


def _planned(run: Run, backbone: Backbone) -> Session:
    prepared, database = PreparedSet.open(run.workspace.prepared), run.workspace.database
    storage = existing_storage(database) if database.is_file() else None
    return plan_session(storage, prepared, backbone, run.options)


def _search(run: Run, backbone: Backbone, worker: Worker) -> None:
    workspace, options, out = run.workspace, run.options, run.out
    storage = open_storage(workspace.database)
    choice = choose(worker, workspace, _planned(run, backbone), options, run.say)
    # Planned again: another run may have made the study while this one built its network.
    with workspace.making_studies():
        session = with_choice(_planned(run, backbone), choice)
        for note in session.notes:
            run.say(note)
        study = open_study(storage, session, workspace.trials, run.say, run.hints)
    settings = session.settings
    run.say(
        f"study {settings.name}{' (new)' if session.is_new else ''}: weights {settings.weights}, at most "
        f"{session.most_epochs} epochs a trial, maximizing {settings.objective}{_unusual(settings)}"
    )
    folder = workspace.trials / settings.name
    keep = max(run.limits.keep, options.confirmation.top)  # those are not known to be trained again yet
    retention = Retention(storage, folder, keep, run.limits.disk_budget_gb or inf)
    best = best_record(records_of(study))
    searched = {one.name for one in session.definition.parameters if one.value is None}
    with observing(out, settings.backbone, (options.trials, session.most_epochs), best, searched) as observer:
        search = Search(
            study=study,
            settings=settings,
            definition=session.definition,
            worker=worker,
            make_job=job_maker(workspace, session),
            observer=observer,
            claims=Claims(folder),
            retention=retention,
            leaving=run.leaving,
            trial_timeout_s=run.limits.trial_timeout_s or inf,
        )
        search.run(options.trials)
    if options.confirmation != Confirmation() and not run.leaving.wanted:
        with workspace.retraining(settings.name):
            _confirm_best(run, session, worker)


def _unusual(settings: StudySettings) -> str:
    return "" if settings.arithmetic == FLOAT32 else f", trained in {settings.arithmetic}"


def _confirm_best(run: Run, session: Session, worker: Worker) -> None:
    """Trains the best trials again and shows what came of it."""
    storage, settings = open_storage(run.workspace.database), session.settings
    study = load_study(storage, settings.name)
    jobs = job_maker(run.workspace, session)
    timeout_s = run.limits.trial_timeout_s or inf
    Retrainer(storage, study, settings, worker, jobs, run.say, run.leaving, timeout_s).run(run.options.confirmation)
    for rows in summary(storage, settings, records_of(study)):
        if rows:
            print_table(rows, tuple(rows[0]))


def _cut_fractions(worker: Worker, workspace: Workspace, session: Session, backbone: Backbone) -> list[float]:
    """The shares of the layers that can be frozen, at any resolution. Builds the study's networks, which finds missing
    weights before it is made. Leaves no trace when one cannot be built.

    SearchError with the reason.
    """
    new_copy = workspace.keep_backbone(backbone.options.get("path", ""), backbone.own)
    job = job_maker(workspace, session)(0, {}, 0)
    request = {key: getattr(job, key) for key in DESCRIBED}
    try:
        replies = [worker.describe(request | {"resolution": resolution}) for resolution in session.resolutions]
    except WorkerDiedError:
        raise  # its log is named in the message
    except SearchError:
        if session.is_new:
            worker.log.unlink(missing_ok=True)
            with suppress(OSError):  # there may be more in it
                worker.log.parent.rmdir()
        if new_copy:
            new_copy.unlink()
        raise
    return list(replies[0]["cut_fractions"])

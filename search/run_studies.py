"""One call of `hpsearch run`: search its studies one after the other, or estimate their time and disk space."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import IMAGENET, Backbone
from models.keras_config import check_backend
from models.networks.arithmetic import FLOAT32
from search.engine.claims import Claims
from search.engine.device_notes import device_lines
from search.engine.loop import Search, StudyGoneError
from search.engine.per_gpu import RUNS_AT_ONCE
from search.engine.retention import Retention
from search.engine.stop_request import StopRequest
from search.engine.worker import Worker, WorkerDiedError
from search.errors import SearchError
from search.planning.arithmetic_choice import choose_arithmetic, with_choice
from search.planning.dry_run import RULE, DryRun, scratch_folder, show
from search.planning.estimate import moved_fractions
from search.planning.open_study import job_maker, network_source, open_study, reopened
from search.planning.planned_study import PlannedStudy, plan_study
from search.planning.run_options import Confirmation, Limits, RunOptions
from search.planning.warm_start import Hints
from search.terminal.durations import duration
from search.terminal.output import counted, print_table
from search.terminal.search_progress import observing
from search.winners.confirmation import Confirmer, summary
from search.workspace import Workspace
from studies.records import best_record, records_of
from studies.settings import StudySettings
from studies.storage import existing_storage, load_study, open_storage
from studies.trials import count_finished


@dataclass(frozen=True)
class Run:
    """One call of `hpsearch run`."""

    workspace: Workspace
    options: RunOptions
    limits: Limits
    stop_request: StopRequest
    out: Console
    hints: Hints | None = None
    """Hints from `--warm-start`."""

    def say(self, line: str) -> None:
        self.out.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def worker(self, study: str, folder: Path | None = None) -> Iterator[Worker]:
        """Yield a worker, and stop it at the end of the block.

        Args:
            study: Name of the study.
            folder: Folder for the worker's log; None: the folder of the study's trials.
        """
        limit_mb = int(1000 * self.limits.memory_limit_gb) if self.limits.memory_limit_gb else None
        log = (folder or self.workspace.trials / study) / "worker.log"
        runs = max(self.workspace.runs(), int(os.environ.get(RUNS_AT_ONCE, "1")))
        worker = Worker(log, memory_limit_mb=limit_mb, fresh=self.limits.fresh_workers, runs=runs)
        try:
            yield worker
        finally:
            worker.stop()


def run_backbones(run: Run, rows: list[Backbone]) -> None:
    """Search all studies, one after the other.

    All networks are planned and built first, so that a mistake in the last one shows at once and not after hours of
    work on the others.
    """
    _check(run)  # first: taking the lock creates the workspace folder
    with run.workspace.shared():
        for backbone in rows:
            planned = _planned(run, backbone)
            with run.worker(planned.settings.name) as worker:
                download = " (its weights are downloaded the first time)" if planned.weights == IMAGENET else ""
                run.say(f"building {backbone.name}{download}")
                network = _described(worker, run.workspace, planned, backbone)
                for line in device_lines(network["device"]):
                    run.say(line)
                if note := moved_fractions(planned, list(network["cut_fractions"])):
                    run.say(note)
                if len(rows) == 1:
                    _search(run, backbone, worker)
        for backbone in rows if len(rows) > 1 else ():
            if run.stop_request.wanted:
                return
            with run.worker(_planned(run, backbone).settings.name) as worker:
                _search(run, backbone, worker)


def estimate_backbones(run: Run, rows: list[Backbone]) -> None:
    """Print what each study would take, without creating it."""
    _check(run)
    again, database = run.options.confirmation, run.workspace.database
    totals_s = []
    with run.workspace.shared():
        for backbone, planned in [(backbone, _planned(run, backbone)) for backbone in rows]:
            name = planned.settings.name
            done = 0 if planned.is_new else count_finished(load_study(existing_storage(database), name))
            trials = max(0, run.options.trials - done) + again.top * again.seeds + again.folds
            new = " (new)" if planned.is_new else ""
            run.say(f"timing trials of {name}{new}, at most {counted(planned.most_epochs, 'epoch')} per trial")
            with (
                _kept_backbone(run, backbone),
                scratch_folder(run.workspace) as scratch,
                run.worker(name, scratch) as worker,
            ):
                chosen = with_choice(planned, choose_arithmetic(worker, run.workspace, planned, run.options, run.say))
                dry = DryRun(run.workspace, chosen, trials, run.limits.keep, run.limits.fresh_workers)
                totals_s.append(show(dry.forecast(worker, scratch), run.workspace, run.say))
    if len(rows) > 1:
        run.say(f"all studies: about {duration(sum(totals_s))}")
    run.say(RULE)


def _check(run: Run) -> None:
    """Raise an error if Keras or the prepared set is not ready, or the set cannot be divided into the wanted folds."""
    check_backend()
    prepared = PreparedSet.open(run.workspace.prepared)
    if run.options.confirmation.folds:
        from data_prep.splitting.folds import check_folds  # late: it imports scikit-learn, which is slow

        check_folds(prepared, run.options.confirmation.folds)


@contextmanager
def _kept_backbone(run: Run, backbone: Backbone) -> Iterator[None]:
    """Keep a copy of a user's own backbone in the workspace while the block runs."""
    new_copy = run.workspace.keep_backbone(backbone.options.get("path", ""), backbone.own)
    try:
        yield
    finally:
        if new_copy:
            new_copy.unlink()


def _planned(run: Run, backbone: Backbone) -> PlannedStudy:
    prepared, database = PreparedSet.open(run.workspace.prepared), run.workspace.database
    storage = existing_storage(database) if database.is_file() else None
    return plan_study(storage, prepared, backbone, run.options)


def _search(run: Run, backbone: Backbone, worker: Worker) -> None:
    workspace, options, out = run.workspace, run.options, run.out
    storage = open_storage(workspace.database)
    choice = choose_arithmetic(worker, workspace, _planned(run, backbone), options, run.say)
    # Plan again: another run may have created the study while this one built its network.
    with workspace.making_studies():
        planned = with_choice(_planned(run, backbone), choice)
        for note in planned.notes:
            run.say(note)
        study = open_study(storage, planned, workspace.trials, run.say, run.hints)
    settings = planned.settings
    run.say(
        f"study {settings.name}{' (new)' if planned.is_new else ''}: weights {settings.weights}, at most "
        f"{counted(planned.most_epochs, 'epoch')} per trial, maximizing {settings.objective}{_unusual(settings)}"
    )
    folder = workspace.trials / settings.name
    keep = max(run.limits.keep, options.confirmation.top)  # Retention does not know the trials to confirm yet
    retention = Retention(storage, folder, keep, run.limits.disk_budget_gb or inf)
    best = best_record(records_of(study))
    searched = {one.name for one in planned.definition.parameters if one.value is None}
    with observing(out, settings, (options.trials, planned.most_epochs), best, searched) as observer:
        search = Search(
            study=study,
            settings=settings,
            definition=planned.definition,
            worker=worker,
            make_job=job_maker(workspace, planned),
            observer=observer,
            claims=Claims(folder),
            retention=retention,
            stop_request=run.stop_request,
            trial_timeout_s=run.limits.trial_timeout_s or inf,
        )
        while True:
            try:
                search.run(options.trials)
                break
            except StudyGoneError:
                study_now = reopened(storage, planned)
                if study_now is None:
                    raise
                search = replace(search, study=study_now)
                run.say(f"the study was renamed to {study_now.study_name}: going on with it")
    if options.confirmation != Confirmation() and not run.stop_request.wanted:
        with workspace.retraining(settings.name):
            _confirm_best(run, planned, worker)


def _unusual(settings: StudySettings) -> str:
    return "" if settings.arithmetic == FLOAT32 else f", trained in {settings.arithmetic}"


def _confirm_best(run: Run, planned: PlannedStudy, worker: Worker) -> None:
    """Train the best trials again and print the results."""
    storage, settings = open_storage(run.workspace.database), planned.settings
    study = load_study(storage, settings.name)
    jobs = job_maker(run.workspace, planned)
    timeout_s = run.limits.trial_timeout_s or inf
    Confirmer(storage, study, settings, worker, jobs, run.say, run.stop_request, timeout_s).run(
        run.options.confirmation
    )
    for rows in summary(storage, settings, records_of(study)):
        if rows:
            print_table(rows, tuple(rows[0]))


def _described(worker: Worker, workspace: Workspace, planned: PlannedStudy, backbone: Backbone) -> dict[str, Any]:
    """Return the facts about the network, which are the same at any resolution, and the device (see `Worker.describe`).

    It builds the study's networks, so that missing weights are noticed before the study is created. If one cannot be
    built, a new study's log and a copy of its backbone made here are removed, unless the worker died.

    Raises:
        SearchError: A network cannot be built; the message says why.
    """
    new_copy = workspace.keep_backbone(backbone.options.get("path", ""), backbone.own)
    source = network_source(workspace, planned)
    try:
        replies = [worker.describe(source, resolution) for resolution in planned.resolutions]
    except WorkerDiedError:
        raise  # keep the log, which the message names
    except SearchError:
        if planned.is_new:
            worker.log.unlink(missing_ok=True)
            with suppress(OSError):  # the folder may have other files
                worker.log.parent.rmdir()
        if new_copy:
            new_copy.unlink()
        raise
    return replies[0]

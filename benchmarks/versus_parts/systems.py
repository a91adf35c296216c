"""Define the systems of the comparison, and run each in processes of its own. Part of ../versus.py.

To add one, add a row to SYSTEMS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from versus_parts.following import space_with
from versus_parts.rows import Course, Epoch, Snapshot
from versus_parts.score import BACKBONE
from versus_parts.watching import STATE, Files, Kept, best_value, facts_of, observe

HERE = Path(__file__).parent
HPSEARCH = (sys.executable, "-P", "-m", "search")
HPSEARCH_AS_PEER = (sys.executable, "-P", str(HERE / "as_peer.py"))
EPOCHS, BATCH = 6, 32
ENDLESS = 1000
"""`--trials` of a run that ends by its time."""


@dataclass(frozen=True)
class System:
    """One way to search: a peer, or hpsearch with certain options."""

    title: str
    peer: str | None = None
    """Name in LOOPS of peers.py; None: hpsearch."""
    prepare: tuple[str, ...] = ()
    """Options of `hpsearch prepare` besides source and seed."""
    run: tuple[str, ...] = ()
    """Options of `hpsearch run` besides backbone, trials and seed."""
    follows: str | None = None
    """System whose trials it goes through, so that lucky suggestions do not decide the comparison."""
    as_it_ships: bool = False
    """Whether it runs for the budget, with as many trials as fit."""
    environment: tuple[tuple[str, str], ...] = ()
    """Environment variables that it gets in addition."""

    @property
    def network(self) -> str:
        """Name in NETWORKS of score.py."""
        return "peer" if self.peer else "hpsearch"


SAME_DATA = ("--split", "69/30/1", "--corrupted-views", "0", "--levels", "none")
SAME_RECIPE = (
    *("--head-epochs", "0", "--epochs", str(EPOCHS), "--batch-size", str(BATCH)),
    *("--warmup-epochs", "0", "--class-weights", "none", "--objective", "macro_f1", "--pruner", "peer"),
)
COLD, UNCACHED = ("--fresh-workers",), ("--prefix-cache", "off")
EIGEN, ONEDNN = ((("TF_ENABLE_ONEDNN_OPTS", value),) for value in "01")
SYSTEMS = {
    "a": System("plain Optuna loop", peer="optuna"),
    "b": System("KerasTuner Hyperband", peer="kerastuner"),
    "c": System("hpsearch, features off", None, SAME_DATA, (*SAME_RECIPE, *COLD, *UNCACHED), follows="a"),
    "d": System("hpsearch, features on", None, SAME_DATA, SAME_RECIPE, follows="a"),
    "e": System("hpsearch as it ships", as_it_ships=True),
    "d-cold": System("hpsearch, a process a trial", None, SAME_DATA, (*SAME_RECIPE, *COLD), follows="a"),
    "d-no-cache": System("hpsearch, no prefix cache", None, SAME_DATA, (*SAME_RECIPE, *UNCACHED), follows="a"),
    "d-eigen": System("hpsearch, TensorFlow's own kernels", None, SAME_DATA, SAME_RECIPE, "a", environment=EIGEN),
    "a-onednn": System("plain Optuna loop, oneDNN's kernels", peer="optuna", environment=ONEDNN),
}


@dataclass(frozen=True)
class Task:
    """Work for a system."""

    source: Path
    folder: Path
    """Empty folder of the system."""
    seed: int
    trials: int
    weights: str
    """`imagenet` or a weights file."""
    budget_s: float | None
    """Seconds for a system that runs as it ships."""
    proposed: Sequence[Mapping[str, Any]] = ()
    """Hyperparameters of each trial, for a system that follows another."""


@dataclass(frozen=True)
class Measured:
    """Everything that was measured of a run."""

    course: Course
    total_s: float
    peak_memory_mb: float
    extra: dict[str, Any] = field(default_factory=dict)


def measure(system: System, task: Task) -> Measured:
    """Run a system; its output goes to log.txt in the task's folder.

    Raises:
        CalledProcessError: A process of the system failed.
    """
    return _measure_peer(system, task) if system.peer else _measure_hpsearch(system, task)


def _start(command: Sequence[str], folder: Path, system: System) -> subprocess.Popen[bytes]:
    environment = os.environ | dict(system.environment)
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def _measure_peer(system: System, task: Task) -> Measured:
    started = time.time()
    assert system.peer is not None
    command = [sys.executable, str(HERE / "peers.py"), system.peer, str(task.source), str(task.folder)]
    command += ["--started", str(started), "--seed", str(task.seed), "--trials", str(task.trials)]
    command += ["--epochs", str(EPOCHS), "--weights", task.weights]
    peak = observe(_start(command, task.folder, system))
    total_s, events = time.time() - started, _events(task.folder)
    proposed = [event["values"] for event in events if event["event"] == "proposed"]
    return Measured(peer_course(events, task.folder), total_s, peak, {"proposed": proposed} if proposed else {})


def _events(folder: Path) -> list[dict[str, Any]]:
    """Read the events that a peer wrote."""
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def peer_course(events: Sequence[Mapping[str, Any]], folder: Path) -> Course:
    """Build the course of a peer's run from its events and the folder with its weights."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in ("trial", "proposed", "step", "epoch", "end")}
    for event in events:
        by_kind[event["event"]].append(event)
    starts = {event["trial"]: event["time_s"] for event in by_kind["trial"]}
    epochs = by_kind["epoch"]
    return Course(
        starts=starts,
        epochs=[Epoch(one["trial"], one["time_s"], one["images"], one["train_s"]) for one in epochs],
        snapshots=[Snapshot(one["time_s"], one["value"], folder / one["weights"]) for one in epochs if one["weights"]],
        trials=len(starts),
        first_step_s=[step["time_s"] - starts[step["trial"]] for step in by_kind["step"]],
        notes={"own_peak_rss_mb": by_kind["end"][0]["peak_rss_mb"]},
    )


def _measure_hpsearch(system: System, task: Task) -> Measured:
    started, workspace, kept = time.time(), task.folder / "workspace", task.folder / "kept"
    kept.mkdir()
    program = HPSEARCH_AS_PEER if system.follows else HPSEARCH
    hpsearch, seed = (*program, "-w", str(workspace)), ("--seed", str(task.seed))
    peak = observe(_start([*hpsearch, "prepare", str(task.source), *system.prepare, *seed], task.folder, system))
    prepare_s = time.time() - started
    trials: tuple[str, ...] = ("--trials", str(task.trials))
    if system.as_it_ships:
        assert task.budget_s is not None
        trials = ("--trials", str(ENDLESS), "--time-budget", f"{max(1.0, task.budget_s - prepare_s):.0f}s")
    space = ("--space", str(space_with(task.proposed, task.folder))) if system.follows else ()
    weights = () if task.weights == "imagenet" else ("--weights", task.weights)
    command = [*hpsearch, "run", "--backbone", BACKBONE, *weights, *space, *system.run, *trials, *seed]
    files = Files(workspace / "trials", kept, started)
    peak = max(peak, observe(_start(command, task.folder, system), files))
    total_s = time.time() - started
    return Measured(hpsearch_course(workspace, files.kept, started), total_s, peak, {"prepare_s": prepare_s})


def hpsearch_course(workspace: Path, kept: Sequence[Kept], started: float) -> Course:
    """Build the course of an hpsearch run from the study's records and the kept versions of the trials' files.

    A trial that was unfinished at the end has only files.
    """
    from data_prep.storage.reader import PreparedSet
    from studies.records import records_of
    from studies.storage import existing_storage, load_study, study_names

    storage = existing_storage(workspace / "studies.db")
    (name,) = study_names(storage)
    records = {record.number: record for record in records_of(load_study(storage, name))}
    states = [(one, facts_of(one.path)) for one in kept if one.path.name.endswith(STATE)]
    ends = [one for one in kept if not one.path.name.endswith(STATE)]
    figures = {number: record.epochs for number, record in records.items() if record.outcome or record.failure}
    figures = {one.trial: facts["epochs"] for one, facts in states} | figures  # the last state of a trial wins
    times = {(one.trial, len(facts["epochs"]) - 1): one.time_s for one, facts in states}
    snapshots = [Snapshot(one.time_s, best_value(facts), one.path) for one, facts in states]
    snapshots += [Snapshot(one.time_s, records[one.trial].outcome["best"]["value"], one.path) for one in ends]
    images = sum(PreparedSet.open(workspace / "prepared").manifest["counts"]["per_split"]["train"])
    images = images // BATCH * BATCH  # the last incomplete batch is dropped
    epochs = [
        Epoch(number, times.get((number, one["step"])), images, images / one["images_per_second"])
        for number, rows in sorted(figures.items())
        for one in rows
    ]
    best = max((one["value"] for rows in figures.values() for one in rows), default=0.0)
    return Course(
        starts={n: one.started.timestamp() - started for n, one in records.items() if one.started is not None},
        epochs=epochs,
        snapshots=snapshots,
        trials=sum(record.state in ("complete", "pruned") for record in records.values()),
        first_step_s=[r.outcome["first_step_s"] for r in records.values() if r.outcome],
        notes={
            "epochs_not_seen": sum(epoch.time_s is None for epoch in epochs),
            "best_not_seen": best > max((one.value for one in snapshots), default=0.0),
        },
    )

"""The search process's side of a training process: start it, send requests, receive events."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data_prep.storage.machine import OWN_CGROUPS, free_memory, processors, schedulable_processors
from models.keras_config import child_environment
from search.engine.job import NetworkSource, OpenChoices, TrainingJob
from search.engine.keras_import import default_environment
from search.engine.own_python import own_module
from search.engine.worker_process import HELD_SIGNALS, MEMORY_LIMIT, OUTGROWN
from search.errors import SearchError

WORKER_COMMAND = own_module("search.engine.worker_process")
MEMORY_GROWTH = 0.08
"""Share of its size by which a process may grow without tracing anything; beyond that, it is replaced."""
SETTLING_TRIALS = 2
"""Trials after new tracing that still set a process's normal size: later trials reuse the memory they take."""
MEMORY_SHARE = 0.9
"""Share of the memory free at its start that a process may use; beyond that, the system would kill some process."""
STOP_TIMEOUT_S = 10
UTF8: Mapping[str, str] = MappingProxyType({"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"})
"""Environment variables with which the process writes its log, and reads file names, whatever the user's letters."""

OnEpochs = Callable[[list[dict[str, Any]]], bool]
"""Receives the figures of finished epochs; returns True to stop the trial."""


class WorkerDiedError(SearchError):
    """Error: the training process ended without a reply.

    Attributes:
        kind: `killed`, `out-of-memory` or `timeout`.
    """

    def __init__(self, message: str, kind: str = "killed") -> None:
        super().__init__(message)
        self.kind = kind


class Worker:
    """One training process, started when it is first needed and again after it died.

    The process keeps its networks from trial to trial, but trials also leave other memory behind. It is replaced before
    a trial that is expected to make it larger than its normal size by more than MEMORY_GROWTH; the largest growth in an
    earlier trial is the estimate.

    Args:
        log: File for the process's output.
        command: Command line of the process.
        memory_limit_mb: Memory beyond which the process ends itself; None: MEMORY_SHARE of the free memory.
        fresh: Whether to replace the process after each trial.
        runs: Number of runs that share the free memory.
    """

    def __init__(
        self,
        log: Path,
        command: Sequence[str] = WORKER_COMMAND,
        memory_limit_mb: int | None = None,
        fresh: bool = False,
        runs: int = 1,
    ) -> None:
        self.log, self.command, self.memory_limit_mb, self.fresh = log, command, memory_limit_mb, fresh
        self.runs, self.memory_kills = max(1, runs), 0
        self.process: subprocess.Popen[str] | None = None
        self.networks_traced = -1
        self.settling = self.settled_memory_mb = self.last_memory_mb = self.growth_mb = 0

    def describe(self, source: NetworkSource, resolution: int) -> dict[str, Any]:
        """Send a `describe` request and return the reply.

        Raises:
            SearchError: The network cannot be built; the message is the worker's reason.
        """
        return self._asked("describe", {"source": asdict(source), "resolution": resolution})

    def choose(self, open_choices: OpenChoices) -> dict[str, Any]:
        """Send a `choose` request and return the reply.

        Raises:
            SearchError: Nothing can be measured; the message is the worker's reason.
        """
        return self._asked("choose", asdict(open_choices))

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a `time` request and return the reply.

        Raises:
            SearchError: The trials cannot be trained; the message is the worker's reason.
        """
        return self._asked("time", request)

    def _asked(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        self._send({"request": kind, **request})
        reply = self._receive()
        if reply["event"] == "failed":
            raise SearchError(reply["message"])
        return reply

    def train(self, job: TrainingJob, on_epochs: OnEpochs, timeout_s: float = inf) -> dict[str, Any]:
        """Train a trial and return the last event, `done` or `failed`.

        Args:
            job: The trial.
            on_epochs: Receives the figures of finished epochs; returns True to stop the trial.
            timeout_s: Seconds after which the process is killed.

        Raises:
            WorkerDiedError: The process ended, or was killed after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        self._send({"request": "train", "job": asdict(job)})
        while (event := self._receive(deadline))["event"] == "epochs":
            self._send({"request": "stop" if on_epochs(event["epochs"]) else "continue"})
        self._recycle(event["memory_mb"], event.get("outcome", {}).get("networks_traced", self.networks_traced))
        return event

    def stop(self) -> None:
        """Kill the process, if it runs."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self.reader.join(STOP_TIMEOUT_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # a request was still in the buffer
        self.process, self.networks_traced, self.settled_memory_mb = None, -1, 0

    def _start(self) -> subprocess.Popen[str]:
        environment = child_environment()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.limit_mb = self.memory_limit_mb or int(MEMORY_SHARE * free_memory() / self.runs / 2**20)
        with open(self.log, "ab") as log, _held_signals():
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                errors="replace",
                env={**default_environment(), **_threads(), **environment, **UTF8, MEMORY_LIMIT: str(self.limit_mb)},
            )
        self.events: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=_read, args=(process, self.events), daemon=True)
        self.reader.start()
        return process

    def _send(self, message: dict[str, Any]) -> None:
        self.process = self.process or self._start()
        self.memory_kills = OWN_CGROUPS.memory_kills()
        assert self.process.stdin is not None
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
        except BrokenPipeError as error:
            raise self._died() from error

    def _receive(self, deadline: float = inf) -> dict[str, Any]:
        left = deadline - time.monotonic()
        try:
            line = self.events.get(timeout=max(0.0, left) if left < inf else None)
        except queue.Empty:
            self.stop()
            raise WorkerDiedError("the trial took longer than --trial-timeout allows", "timeout") from None
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:  # the output was closed, in the middle of a line or between two
            raise self._died() from None
        return event

    def _died(self) -> WorkerDiedError:
        assert self.process is not None
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = None
        self.stop()
        if code == OUTGROWN:
            exceeded = f"the training process exceeded its memory limit of {self.limit_mb} MB"
            return WorkerDiedError(f"{exceeded}; raise it with --memory-limit", "out-of-memory")
        if code == -signal.SIGKILL and OWN_CGROUPS.memory_kills() > self.memory_kills:
            why = "the system killed the training process, because the machine or container has no more memory"
            return WorkerDiedError(f"{why}; give it more, or take a smaller backbone or --batch-size", "out-of-memory")
        if code is None:
            how = f"closed its output, did not end within {STOP_TIMEOUT_S} s, and was killed"
        else:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return WorkerDiedError(f"the training process {how}; its output is in {self.log}")

    def _recycle(self, memory_mb: int, networks_traced: int) -> None:
        if networks_traced > self.networks_traced or self.settled_memory_mb == 0:
            self.networks_traced, self.settled_memory_mb, self.growth_mb = networks_traced, memory_mb, 0
            self.settling = SETTLING_TRIALS
        elif self.settling:
            self.settled_memory_mb = max(self.settled_memory_mb, memory_mb)
            self.settling -= 1
        else:
            self.growth_mb = max(self.growth_mb, memory_mb - self.last_memory_mb)
        self.last_memory_mb = memory_mb
        if self.fresh or memory_mb + self.growth_mb > (1 + MEMORY_GROWTH) * self.settled_memory_mb:
            self.stop()


def _threads() -> dict[str, str]:
    """Return settings of TensorFlow's threads, if a quota grants less than the processors, which it does not see."""
    granted = processors()
    if granted >= schedulable_processors():
        return {}
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    return dict.fromkeys(names, str(granted))


@contextmanager
def _held_signals() -> Iterator[None]:
    """Block signals while a process is started: it inherits this, and no Ctrl-C ends it before it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read(process: subprocess.Popen[str], events: queue.Queue[str]) -> None:
    """Queue each line of output, then an empty one. It runs in a thread, so that waiting for a line can time out."""
    assert process.stdout is not None
    for line in process.stdout:
        events.put(line)
    events.put("")

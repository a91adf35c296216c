"""The asking process's side of a training process: start it, send requests, hear events."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.errors import SearchError
from search.job import TrainingJob

# -P: a user's own models/ or search/ in the current folder is not imported in place of ours.
WORKER_COMMAND = (sys.executable, "-P", "-m", "search.worker")
MEMORY_GROWTH_MB = 2000
STOP_TIMEOUT_S = 10


class WorkerDiedError(SearchError):
    """The training process ended without a word: killed, or out of memory."""


class Worker:
    """One training process, started when it is first needed and again after it died.

    Networks that are built one after another leak some 40 MB each, so a process that has grown by MEMORY_GROWTH_MB
    since its first trial is replaced before the next.
    """

    def __init__(self, log: Path, command: Sequence[str] = WORKER_COMMAND) -> None:
        self.log, self.command = log, command
        self.process: subprocess.Popen[str] | None = None
        self.first_memory_mb: int | None = None

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a `describe` request. SearchError with the worker's reason when the network cannot be built."""
        self._send({"request": "describe", **request})
        reply = self._receive()
        if reply["event"] == "failed":
            raise SearchError(reply["message"])
        return reply

    def train(self, job: TrainingJob, on_epoch: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The last event, `done` or `failed`. `on_epoch` gets each epoch's figures; True asks for the end."""
        self._send({"request": "train", "job": asdict(job)})
        while (event := self._receive())["event"] == "epoch":
            self._send({"request": "stop" if on_epoch(event["figures"]) else "continue"})
        self._recycle(event["memory_mb"])
        return event

    def stop(self) -> None:
        """Ends the process now."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # a request was still in the buffer
        self.process, self.first_memory_mb = None, None

    def _start(self) -> subprocess.Popen[str]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a") as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _send(self, message: dict[str, Any]) -> None:
        self.process = self.process or self._start()
        assert self.process.stdin is not None
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
        except BrokenPipeError as error:
            raise self._died() from error

    def _receive(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            raise self._died()
        event: dict[str, Any] = json.loads(line)
        return event

    def _died(self) -> WorkerDiedError:
        assert self.process is not None
        code = self.process.wait(STOP_TIMEOUT_S)
        self.stop()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return WorkerDiedError(f"the training process {how}; its output is in {self.log}")

    def _recycle(self, memory_mb: int) -> None:
        self.first_memory_mb = self.first_memory_mb or memory_mb
        if memory_mb - self.first_memory_mb > MEMORY_GROWTH_MB:
            self.stop()

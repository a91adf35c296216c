"""The training process: takes jobs from standard input, trains, and writes events to standard output.

It knows nothing of Optuna. It ignores the terminal's interrupt (the asking process decides) and ends when its
input closes, so that it never outlives the process that asked.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from models.errors import DivergedError, ModelError


class Trainer(Protocol):
    """What a worker does with its requests; search/trainer.py is the real one."""

    def describe(self, request: dict[str, Any]) -> dict[str, Any]: ...

    def train(self, job: dict[str, Any], on_epoch: Callable[[dict[str, Any]], bool]) -> dict[str, Any]: ...


def serve(load_trainer: Callable[[], Trainer]) -> None:
    """Answers requests until the input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = _take_over_stdout()
    requests = _requests(sys.stdin)
    trainer: Trainer | None = None

    def send(event: str, **content: Any) -> None:
        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
        print(json.dumps({"event": event, "memory_mb": memory_mb, **content}), file=events, flush=True)

    def on_epoch(figures: dict[str, Any]) -> bool:
        send("epoch", figures=figures)
        return bool(requests.get()["request"] == "stop")

    while True:
        request = requests.get()
        try:
            trainer = trainer or load_trainer()
            if request["request"] == "describe":
                send("described", **trainer.describe(request))
            else:
                send("done", outcome=trainer.train(request["job"], on_epoch))
        except Exception as error:
            traceback.print_exc()
            send("failed", kind=kind_of(error), message=" ".join(str(error).split())[:500], place=_place(error))


def kind_of(error: Exception) -> str:
    """The failure class that the asking process acts on: diverged, out-of-memory, refused or bug."""
    if isinstance(error, DivergedError):
        return "diverged"
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "out-of-memory"
    return "refused" if isinstance(error, ModelError) else "bug"


def _take_over_stdout() -> TextIO:
    """The real standard output, for events alone; whatever else is printed goes to standard error, the log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _requests(source: TextIO) -> queue.Queue[dict[str, Any]]:
    """The requests as they come, read by a thread that ends the process when the input closes."""
    requests: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in source:
            requests.put(json.loads(line))
        os._exit(0)  # in the middle of an epoch too: nobody is left to hear of it

    threading.Thread(target=read, daemon=True).start()
    return requests


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _keras_trainer() -> Trainer:
    from search.trainer import KerasTrainer  # imports TensorFlow, which prints, only when all is set up for that

    return KerasTrainer()


if __name__ == "__main__":
    serve(_keras_trainer)

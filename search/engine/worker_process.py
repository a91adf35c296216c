"""The training process: reads jobs from standard input, trains, and writes events to standard output.

It does not use Optuna. It ignores Ctrl-C, SIGTERM and SIGHUP, which are for the search process to handle. It ends when
its input closes, so that it never outlives the search process, or when it exceeds its memory limit.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import psutil

from data_prep.augmentation.quiet_import import undisturbed
from models.errors import DivergedError, ModelError
from models.out_of_memory import DISK_WORDS, is_out_of_memory
from search.engine.job import LOG_FILE
from studies.file_locks import lock

MEMORY_LIMIT = "HPSEARCH_WORKER_MEMORY_MB"
"""Environment variable: memory in MB beyond which the process ends itself with exit code OUTGROWN."""
OUTGROWN = 86  # neither a signal's number nor an exit code of Python or TensorFlow
MEMORY_CHECK_S = 0.2
HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the process ignores. It is started with them blocked, so that none ends it before."""
REPLIES = {"describe": "described", "choose": "chosen", "time": "timed"}
"""Request with a single reply -> event of that reply. The trainer's method of the same name answers it."""

Figures = dict[str, Any]


class Trainer(Protocol):
    """Handler of the requests to a training process; search/engine/keras_trainer.py has the real one."""

    def describe(self, request: dict[str, Any]) -> dict[str, Any]: ...

    def choose(self, request: dict[str, Any]) -> dict[str, Any]: ...

    def time(self, request: dict[str, Any]) -> dict[str, Any]: ...

    def train(self, job: dict[str, Any], on_epochs: Callable[[list[Figures]], bool]) -> dict[str, Any]: ...


def serve(load_trainer: Callable[[], Trainer]) -> None:
    """Answer requests until the input closes. `load_trainer` is called at the first request."""
    for number in HELD_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    events = _take_over_stdout()
    requests = _requests(sys.stdin)
    _watch_memory(float(os.environ.get(MEMORY_LIMIT, "inf")))
    trainer: Trainer | None = None

    def send(event: str, **content: Any) -> None:
        print(json.dumps({"event": event, "memory_mb": _memory_mb(), **content}), file=events, flush=True)

    def on_epochs(figures: list[Figures]) -> bool:
        send("epochs", epochs=figures)
        return bool(requests.get()["request"] == "stop")

    while True:
        request = requests.get()
        kind = request.pop("request")
        try:
            if kind in REPLIES:
                trainer = trainer or load_trainer()
                send(REPLIES[kind], **getattr(trainer, kind)(request))
                continue
            with _in_folder(Path(request["job"]["folder"])):
                trainer = trainer or load_trainer()
                outcome = _logged(trainer.train, request["job"], on_epochs)
            _give_memory_back()
            send("done", outcome=outcome)
        except Exception as error:
            if kind in REPLIES:
                traceback.print_exc()
            send("failed", kind=kind_of(error), message=" ".join(str(error).split())[:500], place=_place(error))


def kind_of(error: Exception) -> str:
    """Return the kind of a failure for the search process: diverged, out-of-memory, disk-full, refused or bug."""
    if isinstance(error, DivergedError):
        return "diverged"
    if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or DISK_WORDS in str(error):
        return "disk-full"
    if not isinstance(error, ModelError) and is_out_of_memory(error):
        return "out-of-memory"
    return "refused" if isinstance(error, ModelError) else "bug"


def _logged(train: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Train, and log an error with the trial's other output: a bug with its traceback, any other error in one line."""
    try:
        return train(*arguments)
    except Exception as error:
        if kind_of(error) == "bug":
            traceback.print_exc()
        else:
            print(f"{kind_of(error)}: {type(error).__name__}: {error}", file=sys.stderr)
        raise


@contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    """Lock a trial's folder, and redirect all output to the log in it.

    The lock keeps out the training process of a killed search, which may still be ending.
    """
    with lock(folder / ".training"), open(folder / LOG_FILE, "ab") as log:
        own = os.dup(2)
        try:
            _print_to(log.fileno())
            yield
        finally:
            _print_to(own)
            os.close(own)


def _print_to(descriptor: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _give_memory_back() -> None:
    """Return unused memory to the system: it would count as growth, and the process would be replaced."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim:
        trim(0)


def _memory_mb() -> int:
    """Return resident memory in MB without mapped files, whose pages the system takes back when it needs them."""
    found = psutil.Process().memory_info()
    return int((found.rss - getattr(found, "shared", 0)) // 2**20)


def _watch_memory(limit_mb: float) -> None:
    """End the process when it is too large; a kill by the system could not be told from any other kill."""

    def watch() -> None:
        while (now := _memory_mb()) <= limit_mb:
            time.sleep(MEMORY_CHECK_S)
        exceeded = f"the training process exceeded its memory limit of {limit_mb:.0f} MB with {now} MB"
        os.write(2, f"{exceeded}; raise it with --memory-limit\n".encode())
        os._exit(OUTGROWN)

    if limit_mb < float("inf"):
        threading.Thread(target=watch, daemon=True).start()


def _take_over_stdout() -> TextIO:
    """Return the real standard output, for events only; other output now goes to standard error, which is the log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _requests(source: TextIO) -> queue.Queue[dict[str, Any]]:
    """Return a queue of requests, filled by a thread that ends the process when the input closes."""
    requests: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in source:
            requests.put(json.loads(line))
        os._exit(0)  # even in the middle of an epoch: nobody is left to receive the result

    threading.Thread(target=read, daemon=True).start()
    return requests


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _keras_trainer() -> Trainer:
    from search.engine.keras_import import import_keras

    import_keras()
    with undisturbed():
        from search.engine.keras_trainer import (
            KerasTrainer,  # imports TensorFlow, which prints: only after output is redirected
        )

    return KerasTrainer()


if __name__ == "__main__":
    serve(_keras_trainer)

"""Run the same command once per GPU; the processes work together on the same studies."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from search.interrupts import handled_signals

VISIBLE = "CUDA_VISIBLE_DEVICES"
ON_GPU = "HPSEARCH_ON_GPU"
"""Environment variable: GPU for which this process was started. Such a process starts no others."""
RUNS_AT_ONCE = "HPSEARCH_RUNS_AT_ONCE"
"""Environment variable: number of processes that were started together, and share the free memory."""


def run_on_each(gpus: Sequence[str], command: Sequence[str], say: Callable[[str], None]) -> int:
    """Run the command once per GPU, each process seeing only its own, and show their output line by line.

    Ctrl-C, SIGTERM and the end of the terminal are passed on to all processes.

    Args:
        gpus: Values of CUDA_VISIBLE_DEVICES, one per process.
        command: Command line to run.
        say: Receives each line of output, prefixed with its GPU.

    Returns:
        The largest exit code, as an absolute value.
    """
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | {VISIBLE: gpu, ON_GPU: gpu, RUNS_AT_ONCE: str(len(gpus))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C then reaches only this process, which passes it on
        )
        for gpu in gpus
    ]
    readers = [
        threading.Thread(target=_show, args=(process, f"GPU {gpu}: ", say))
        for gpu, process in zip(gpus, processes, strict=True)
    ]
    with _passing_on(processes):
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        return max(abs(process.wait()) for process in processes)


def _show(process: subprocess.Popen[str], prefix: str, say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            say(prefix + line.rstrip("\n"))


@contextmanager
def _passing_on(processes: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    def pass_on(number: int, frame: Any) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in handled_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

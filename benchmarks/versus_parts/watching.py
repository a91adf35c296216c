"""Watch a run from outside: its memory, and for hpsearch each checkpoint of a trial. Part of ../versus.py."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

POLL_S, MEMORY_EVERY = 0.2, 5
STATE, WEIGHTS = "state.npz", "best.weights.h5"
"""Files of a trial: its checkpoint, written after each epoch, and at its end the weights of the best epoch."""


@dataclass(frozen=True)
class Kept:
    """One version of a file that a trial wrote."""

    time_s: float
    """Seconds from the start to when it was first seen."""
    trial: int
    path: Path


class Files:
    """Keeps every version of the trials' files.

    A hard link is enough, because hpsearch replaces these files and never writes into them.
    """

    def __init__(self, trials: Path, kept: Path, started: float) -> None:
        """Create it without any version.

        Args:
            trials: The workspace's folder of trials.
            kept: Empty folder on the same disk, for the versions.
            started: Start of the run, by time.time().
        """
        self.trials, self.folder, self.started = trials, kept, started
        self.kept: list[Kept] = []
        self._seen: set[tuple[int, int]] = set()

    def poll(self) -> None:
        """Keep each version that is new since the last call."""
        for name in (STATE, WEIGHTS):
            for path in self.trials.glob(f"*/*/{name}"):
                with suppress(FileNotFoundError):  # the trial ended, or the file is being replaced
                    if _version(path) not in self._seen:
                        self._keep(path)

    def _keep(self, path: Path) -> None:
        target = self.folder / f"{len(self.kept):05d}.{path.name}"
        os.link(path, target)
        self._seen.add(_version(target))
        self.kept.append(Kept(time.time() - self.started, int(path.parent.name), target))


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def facts_of(state: Path) -> dict[str, Any]:
    """Return a checkpoint's facts, among them `epochs` (of all phases) and `done` (epochs of the current phase)."""
    with np.load(state, allow_pickle=False) as content:
        facts: dict[str, Any] = json.loads(content["facts"].tobytes())
    return facts


def best_value(facts: dict[str, Any]) -> float:
    """Return the value of the weights in the group `best`: that of the best epoch of the current phase."""
    return max(float(epoch["value"]) for epoch in facts["epochs"][-facts["done"] :])


def observe(process: subprocess.Popen[bytes], files: Files | None = None) -> float:
    """Wait for a process; return the peak of resident memory of it and its children, in megabytes.

    Memory is read every second. Pages that processes share count for each of them.

    Raises:
        CalledProcessError: The process ended with an exit code other than 0.
    """
    peak, polls = 0.0, 0
    try:
        while process.poll() is None:
            if polls % MEMORY_EVERY == 0:
                peak = max(peak, _resident_mb(process.pid))
            if files:
                files.poll()
            polls += 1
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        if files:
            files.poll()
    finally:
        process.kill()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return peak


def _resident_mb(pid: int) -> float:
    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total / 2**20

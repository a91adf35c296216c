"""A run watched from outside: its memory, and of hpsearch each state that a trial writes. Part of ../versus.py."""

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
"""What a trial leaves: after each epoch all that the next one needs; at its end the best epoch's weights."""


@dataclass(frozen=True)
class Kept:
    """One version of a file that a trial wrote."""

    time_s: float
    """When it was first seen, since the start."""
    trial: int
    path: Path


class Files:
    """Keeps every version of the trials' files by a hard link: they are replaced, never written into."""

    def __init__(self, trials: Path, kept: Path, started: float) -> None:
        """`trials`: the workspace's folder; `kept`: an empty folder on the same disk; `started`: by time.time()."""
        self.trials, self.folder, self.started = trials, kept, started
        self.kept: list[Kept] = []
        self._seen: set[tuple[int, int]] = set()

    def poll(self) -> None:
        for name in (STATE, WEIGHTS):
            for path in self.trials.glob(f"*/*/{name}"):
                with suppress(FileNotFoundError):  # the trial has ended, or the next version is there
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
    """What a trial's state says of its progress: `epochs` of all phases, `done` of the present phase, and more."""
    with np.load(state, allow_pickle=False) as content:
        facts: dict[str, Any] = json.loads(content["facts"].tobytes())
    return facts


def best_value(facts: dict[str, Any]) -> float:
    """The value of the weights in the group `best`: the best epoch of the present phase."""
    return max(float(epoch["value"]) for epoch in facts["epochs"][-facts["done"] :])


def observe(process: subprocess.Popen[bytes], files: Files | None = None) -> float:
    """Waits for the process; the most megabytes that it and its children had resident, looked at every second. Pages
    that they share count for each of them.

    Raises CalledProcessError unless it ends with 0.
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

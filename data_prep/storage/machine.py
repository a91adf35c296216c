"""What this process may take of the machine: free memory and processors, also in a container with limits (cgroups)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Cgroups:
    """The control groups that this process is in, version 1 or 2.

    Attributes:
        root: Folder where they are mounted.
        membership: File that says in which group of each hierarchy the process is.
        vmstat: File of the kernel's counters, for where no group counts.
    """

    root: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")
    vmstat: Path = Path("/proc/vmstat")

    def folders(self, controller: str) -> Iterator[Path]:
        """Yield the group's folder and those of its parents, as far as this process sees them.

        A container may see its own group as the root, while its path is that of the host.
        """
        for line in _text(self.membership).splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = self.root / controller if controllers else self.root
            own = top / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_dir() and folder.is_relative_to(top))

    def free_memory(self) -> float:
        """Return the bytes up to the nearest limit; infinite without any. Cached files count as free."""
        return min(map(_free_in, self.folders("memory")), default=math.inf)

    def processors(self) -> float:
        """Return the smallest quota of processor time, in processors; infinite without any."""
        return min(map(_processors_in, self.folders("cpu")), default=math.inf)

    def memory_kills(self) -> int:
        """Return how many processes of this group, or else of the machine, the kernel killed for lack of memory."""
        for folder in self.folders("memory"):
            for name in ("memory.events", "memory.oom_control"):
                if (count := _fields(folder / name).get("oom_kill")) is not None:
                    return count
        return _fields(self.vmstat).get("oom_kill", 0)


OWN_CGROUPS = Cgroups()


def free_memory(cgroups: Cgroups = OWN_CGROUPS) -> int:
    """Return the bytes of memory that this process and others can still take before the system or a limit ends one."""
    return int(min(psutil.virtual_memory().available, cgroups.free_memory()))


def processors(cgroups: Cgroups = OWN_CGROUPS) -> int:
    """Return how many processors this process may use, at least 1."""
    return max(1, math.ceil(min(schedulable_processors(), cgroups.processors())))


def schedulable_processors() -> int:
    """Return the number of processors that this process may run on, at whatever share of their time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_in(folder: Path) -> float:
    limits = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limit = min((_number(folder / name) for name in limits), default=math.inf)
    used = min(_number(folder / name) for name in ("memory.current", "memory.usage_in_bytes"))
    if math.inf in (limit, used):
        return math.inf
    found = _fields(folder / "memory.stat")
    total = "total_" if "total_inactive_file" in found else ""
    cached = found.get(f"{total}inactive_file", 0) + found.get(f"{total}active_file", 0)
    return max(0.0, limit - max(0.0, used - cached))


def _processors_in(folder: Path) -> float:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    with suppress(ValueError, ZeroDivisionError):
        if int(quota) > 0:
            return int(quota) / int(period)
    return math.inf


def _number(path: Path) -> float:
    try:
        return int(_text(path))
    except ValueError:  # "max", or no such file
        return math.inf


def _fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file with a name and a number in each line."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""

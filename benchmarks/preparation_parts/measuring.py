"""Take time and memory of parts of a process. Part of ../preparation.py."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MEMORY = {"private_mb": "RssAnon", "mapped_mb": "RssFile", "resident_mb": "VmRSS"}
"""Title of a figure -> its field in /proc/self/status."""


class Clock:
    """Stopwatch of wall seconds and CPU seconds of all threads. The first reading stops it."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        self.stopped: dict[str, float] = {}

    def seconds(self) -> dict[str, float]:
        now = {"s": time.perf_counter() - self.wall, "cpu_s": time.process_time() - self.cpu}
        self.stopped = self.stopped or {key: round(value, 3) for key, value in now.items()}
        return self.stopped

    def rates(self, views: int) -> dict[str, float]:
        return {f"views_per_{key}": round(views / value, 1) for key, value in self.seconds().items()}


class Watch:
    """Progress listener that records the time of each step and of each stage."""

    def __init__(self) -> None:
        self.began = Clock()
        self.done, self.seen = 0, list[tuple[int, Clock]]()
        self.stages = dict[str, Clock]()

    def start(self, title: str, total: int, unit: str = "images") -> None:
        self.end()
        self.stages[title] = Clock()

    def end(self) -> dict[str, dict[str, float]]:
        return {title: clock.seconds() for title, clock in self.stages.items()}

    def advance(self, count: int) -> None:
        self.done += count
        self.seen.append((self.done, Clock()))


def timed(name: str, function: Callable[..., Any], seconds: dict[str, dict[str, float]]) -> Callable[..., Any]:
    """Wrap a function so that its seconds are stored under `name`. A generator is run to its end."""

    def run(*args: Any, **kwargs: Any) -> Any:
        clock = Clock()
        result = function(*args, **kwargs)
        result = list(result) if isinstance(result, Iterator) else result
        seconds[name] = clock.seconds()
        return result

    return run


@contextmanager
def memory() -> Iterator[dict[str, int]]:
    """Yield a dict that has the peaks of memory in the block, in MB, after the block has ended."""
    peaks, over = dict.fromkeys(_MEMORY, 0), threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            status = Path("/proc/self/status").read_text()
            for key, field in _MEMORY.items():
                kb = int(re.findall(rf"{field}:\s+(\d+) kB", status)[0])
                peaks[key] = max(peaks[key], round(kb / 1000))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()

"""Requests to stop a run before all its trials are done: by Ctrl-C, or at the end of its time budget."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType

from search.interrupts import handled_signals, interrupt


class StopRequestedError(Exception):
    """Request to stop the run, raised when the current epoch is finished and saved."""


class StopRequest:
    """Whether a run should stop; checked after each epoch and between trials."""

    def __init__(self, time_budget_s: float = inf, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the time budget; `clock` returns seconds."""
        self._clock = clock
        self._deadline = clock() + time_budget_s
        self.interrupted = False

    @property
    def wanted(self) -> bool:
        """Whether the run should stop."""
        return self.interrupted or self.time_left_s <= 0

    @property
    def time_left_s(self) -> float:
        return self._deadline - self._clock()

    def time_is_over(self) -> str:
        """Return the line that says so, and by how much the time was exceeded, because epochs are finished first."""
        late_s = -self.time_left_s
        late = f", {late_s:.0f} s later than --time-budget says because an epoch or a step before it had to end"
        return f"The time is over{late if late_s >= 0.5 else ''}"


@contextmanager
def listening_for_signals(stop_request: StopRequest, say: Callable[[str], None]) -> Iterator[None]:
    """Turn signals into stop requests while the block runs.

    The first Ctrl-C stops the run after the current epoch. The second one, a SIGTERM, or the end of the terminal stops
    it at once by raising KeyboardInterrupt.
    """

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop_request.interrupted:
            interrupt(number, frame)
        stop_request.interrupted = True
        say("Ctrl-C: stopping after this epoch; press Ctrl-C again to stop now")

    def on_termination(number: int, frame: FrameType | None) -> None:
        stop_request.interrupted = True
        interrupt(number, frame)

    wanted = dict.fromkeys(handled_signals(), on_termination) | {signal.SIGINT: on_interrupt}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

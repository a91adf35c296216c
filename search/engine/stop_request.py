"""When a run is to leave before its trials are all done: Ctrl-C, or the end of its time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType


class StopRequest:
    """Asked at each epoch's end and between trials."""

    def __init__(self, time_budget_s: float = inf, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._deadline = clock() + time_budget_s
        self.interrupted = False

    @property
    def wanted(self) -> bool:
        return self.interrupted or self.time_left_s <= 0

    @property
    def time_left_s(self) -> float:
        return self._deadline - self._clock()


@contextmanager
def listening_for_signals(stop_request: StopRequest, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C finishes the epoch and leaves; the second, or a SIGTERM, leaves now, by KeyboardInterrupt."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop_request.interrupted:
            raise KeyboardInterrupt
        stop_request.interrupted = True
        say("Ctrl-C: leaving when the epoch is done; once more leaves now")

    def on_termination(number: int, frame: FrameType | None) -> None:
        stop_request.interrupted = True
        raise KeyboardInterrupt

    wanted = {signal.SIGINT: on_interrupt, signal.SIGTERM: on_termination}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

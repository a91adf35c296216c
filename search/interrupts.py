"""Ctrl-C, SIGTERM and a closed terminal: each ends a command in one line, from its first import to its last breath.

This module is imported first, so it imports next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
LINE = "Interrupted."
came: list[int] = []
"""Signals that have come so far. An exception that follows one is its consequence: imports, for example, turn a
KeyboardInterrupt into errors of their own."""


def handled_signals() -> list[signal.Signals]:
    """Return the signals that interrupt a command: SIGHUP only if it is not ignored, as `nohup` asks."""
    kept = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *kept]


def leave(number: int, frame: FrameType | None) -> None:
    """Say that the command was interrupted and end the process at once. For times when it holds nothing to put back."""
    try:
        os.write(2, f"{LINE}\n".encode())
    finally:
        os._exit(INTERRUPTED)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Note the signal and raise KeyboardInterrupt, so that what the command holds is put back."""
    came.append(number)
    raise KeyboardInterrupt


class LeavingAtOnce:
    """Context in which a Ctrl-C, or another signal of `handled_signals`, ends the process at once and in one line."""

    def __enter__(self) -> None:
        self.before = {}
        if not _in_main_thread():
            return
        for number in handled_signals():
            self.before[number] = signal.signal(number, leave)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def handle_with(handler: object) -> None:
    """Let `leave` or `interrupt` handle all signals of `handled_signals` from now on."""
    for number in handled_signals():
        signal.signal(number, handler)  # type: ignore[arg-type]


def _in_main_thread() -> bool:
    threading = sys.modules.get("threading")
    return threading is None or threading.current_thread() is threading.main_thread()

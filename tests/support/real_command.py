"""The real command in a process of its own, as a shell starts it: for its signals, its terminal and its encodings."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HPSEARCH = (sys.executable, "-P", "-c", "from search.cli import main; main()")
"""What the installed script `hpsearch` does."""
ROOT = Path(__file__).parents[2]


def environment(**changes: str) -> dict[str, str]:
    """The environment with these changes, and this checkout on the path; without what would set an encoding."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return kept | {"PYTHONPATH": str(ROOT)} | changes


def hear_hangups() -> None:
    """Let a process hear SIGHUP, which the tests themselves may have been told to ignore by nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": hear_hangups} | options
    return subprocess.Popen([*HPSEARCH, *arguments], env=env or environment(), **options)


def on_terminal(
    *arguments: str, env: dict[str, str] | None = None, command: Sequence[str] = HPSEARCH
) -> tuple[subprocess.Popen[bytes], int]:
    """The command as the leader of a session of its own, on a terminal; with the terminal's other end."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *command, *arguments],
        env=env or environment(),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=hear_hangups,
    )
    os.close(its)
    return process, ours


_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


def read_all(descriptor: int) -> str:
    """Everything that is written to a terminal until nobody has it open."""
    found = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        found += part
    os.close(descriptor)
    return found.decode(errors="replace")

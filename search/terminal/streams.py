"""Standard output and error that never end a command: whatever the encoding lacks, and whoever stops reading."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import time
from contextlib import suppress
from typing import Any

NOBODY_READS = (errno.EPIPE, errno.EIO, errno.EBADF)
"""Errors of writing to a pipe whose reader ended, to a terminal that was closed, and to a closed descriptor."""
SPELLED = {"±": "+-", "–": "-", "—": "-", "→": "->", "×": "x", "·": "-", "…": "...", "•": "*", "≤": "<=", "≥": ">="}
"""Signs -> how they are written in an encoding that lacks them. Other letters become escapes, as in \\u7ec6."""
BACKSLASHES = "backslashreplace"
BEHIND_S = 0.01


class LastingOutput(io.FileIO):
    """Binary output that drops what nobody can read any more, so that the work goes on.

    It has no buffer of its own: a signal's handler may print while another print is under way, which buffers refuse.
    """

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left:
                left = left[self._written(left) :]
        except OSError as error:
            if error.errno not in NOBODY_READS:
                raise
        return memoryview(data).nbytes

    def _written(self, data: memoryview) -> int:
        count = super().write(data)
        if count is None:  # the reader of a non-blocking pipe is behind
            time.sleep(BEHIND_S)
        return count or 0


class SpelledOutput(io.TextIOWrapper):
    """Text output that spells the letters which its encoding lacks.

    ASCII is declared as Latin-1, because Click would replace an ASCII stream by a UTF-8 one.
    """

    def __init__(self, file: LastingOutput, letters: str, **options: Any) -> None:
        declared = "latin-1" if codecs.lookup(letters).name == "ascii" else letters
        super().__init__(file, encoding=declared, errors=BACKSLASHES, **options)
        self.letters = letters

    def write(self, text: str) -> int:
        return super().write(spelled(text, self.letters))


def spelled(text: str, encoding: str) -> str:
    """Return the text in letters that the encoding has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for sign, words in SPELLED.items():
            with suppress(UnicodeEncodeError):
                sign.encode(encoding)
                continue
            text = text.replace(sign, words)
        return text.encode(encoding, BACKSLASHES).decode(encoding)
    return text


def make_output_last() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that raise no error over letters or missing readers."""
    for number in (0, 1, 2):  # a file that is opened later must not become standard output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _lasting(1, sys.stdout)
    sys.stderr = _lasting(2, sys.stderr)


def _lasting(number: int, old: Any) -> SpelledOutput:
    with suppress(AttributeError, OSError, ValueError):
        old.flush()
    return SpelledOutput(
        LastingOutput(number, "w", closefd=False),
        getattr(old, "encoding", None) or "utf-8",
        line_buffering=number == 2 or getattr(old, "line_buffering", True),
        write_through=getattr(old, "write_through", False),
    )


def restart_in_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if file names are not UTF-8; what is printed keeps its encoding.

    Otherwise, under LC_ALL=C without UTF-8 mode, Chinese class names are neither read nor written as such.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name == "utf-8":
        return
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    kept = {"PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING") or f"{encoding}:{BACKSLASHES}"}
    os.execve(sys.executable, sys.orig_argv, os.environ | kept | {"PYTHONUTF8": "1"})

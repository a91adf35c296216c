"""Who is at work on which trial, told by locks that the kernel lets go of when a process dies, however it dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from search.job import numbered


@dataclass(frozen=True)
class Claims:
    """The claims of this process on the trials of one study. Local disks only: locks do not cross a network."""

    folder: Path
    """trials/STUDY"""
    held: dict[int, IO[str]] = field(default_factory=dict)

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Held by one process at a time, while it looks at who does what and takes a trial."""
        with opened(self.folder / ".deciding") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def take(self, number: int) -> None:
        """Claims a trial that was given out. Whoever put it back may be about to let go of it: waits for that."""
        handle = opened(self._file(number))
        fcntl.flock(handle, fcntl.LOCK_EX)
        self.held[number] = handle

    def release(self, number: int) -> None:
        if number in self.held:
            self.held.pop(number).close()

    def is_free(self, number: int) -> bool:
        """Whether nobody alive has this trial."""
        if not self._file(number).exists():
            return True
        with opened(self._file(number)) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def _file(self, number: int) -> Path:
        return self.folder / numbered(number) / ".owner"


def opened(path: Path) -> IO[str]:
    """A lock file, made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a")

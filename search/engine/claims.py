"""Who is at work on which trial: a lock each, which the kernel lets go of when its process dies, however it dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from search.engine.job import trial_folder_name
from studies.file_locks import is_free, lock


@dataclass(frozen=True)
class Claims:
    """The claims of this process on the trials of one study."""

    folder: Path
    """trials/STUDY"""
    held: dict[int, IO[str]] = field(default_factory=dict)

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Held by one process at a time, while it looks at who does what and takes a trial."""
        with lock(self.folder / ".deciding"):
            yield

    def take(self, number: int) -> None:
        """Claims a trial that was given out. Whoever put it back may be about to let go of it: waits for that."""
        self.held[number] = lock(self._file(number))

    def release(self, number: int) -> None:
        if number in self.held:
            self.held.pop(number).close()

    def is_free(self, number: int) -> bool:
        """Whether nobody alive has this trial."""
        return is_free(self._file(number))

    def _file(self, number: int) -> Path:
        return self.folder / trial_folder_name(number) / ".owner"

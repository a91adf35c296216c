"""Claims on trials: one lock per trial, which the kernel releases when the process that holds it ends or crashes."""

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
    """Locks of this process on the trials of one study."""

    folder: Path
    """Folder of the study's trials, trials/STUDY."""
    held: dict[int, IO[bytes]] = field(default_factory=dict)
    """Trial number -> open lock file."""

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Hold a lock while this process looks for a trial and claims it; only one process does so at a time."""
        with lock(self.folder / ".deciding"):
            yield

    def take(self, number: int) -> None:
        """Claim a trial; wait if the process that put it back has not released it yet."""
        self.held[number] = lock(self._file(number))

    def release(self, number: int) -> None:
        """Release the claim on a trial, if this process holds it."""
        if number in self.held:
            self.held.pop(number).close()

    def is_free(self, number: int) -> bool:
        """Return whether no living process has claimed this trial."""
        return is_free(self._file(number))

    def _file(self, number: int) -> Path:
        return self.folder / trial_folder_name(number) / ".owner"

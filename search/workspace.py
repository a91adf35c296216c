"""The workspace: one folder that holds a prepared set and everything that was searched on it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from search.errors import SearchError

DEFAULT_FOLDER = "hpsearch-workspace"
OWN_FOLDERS = {"demo": "hpsearch-demo"}
"""Commands whose workspace is another one where the user names none."""


def default_folder(command: str) -> str:
    return OWN_FOLDERS.get(command, DEFAULT_FOLDER)


def current_fingerprint(workspace: Workspace) -> str | None:
    """Of the prepared set that the workspace holds now; None without one."""
    from data_prep.prepared import PreparedSet  # NumPy, which `hpsearch --help` has no use for

    try:
        return PreparedSet.open(workspace.prepared).fingerprint
    except DataError:
        return None


@dataclass(frozen=True)
class Workspace:
    """The paths inside a workspace folder, and the lock that keeps `prepare` and `run` apart."""

    folder: Path

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def database(self) -> Path:
        return self.folder / "studies.db"

    @property
    def trials(self) -> Path:
        return self.folder / "trials"

    @property
    def cache(self) -> Path:
        """May be removed at any time, at the cost of making again what is in it."""
        return self.folder / "cache"

    @property
    def features(self) -> Path:
        """What frozen layers made of stored views."""
        return self.cache / "features"

    @property
    def refits(self) -> Path:
        """Trials trained anew on training and validation images, and the views that takes."""
        return self.cache / "refits"

    @property
    def backbones(self) -> Path:
        """The `.keras` files that studies began from, each by the hash of its content."""
        return self.folder / "backbones"

    def backbone_file(self, own: Mapping[str, str]) -> str:
        """Where the file of a user's own backbone is kept; empty for any other. `own`: as a study has it."""
        return str((self.backbones / f"{own['sha256']}.keras").resolve()) if "sha256" in own else ""

    def keep_backbone(self, source: str, own: Mapping[str, str]) -> Path | None:
        """Copies the file of a user's own backbone to where its studies find it, whatever becomes of the original. The
        copy; None when there is nothing to copy or it was there."""
        target = Path(self.backbone_file(own))
        if "sha256" not in own or target.exists():
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        shutil.copyfile(source, partial)
        os.replace(partial, target)
        return target

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    @property
    def test_readings(self) -> Path:
        return self.folder / "test-readings.jsonl"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Held while the prepared set is written. SearchError when a `run` (or another `prepare`) is at work here."""
        with self._lock(fcntl.LOCK_EX, "a run or another prepare is at work in it; wait for it or stop it first"):
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Held while trials run; several runs may hold it. SearchError while a `prepare` is at work here."""
        with self._lock(fcntl.LOCK_SH, "a prepare is at work in it; wait for it to end"):
            yield

    @contextmanager
    def making_studies(self) -> Iterator[None]:
        """Held while a study is made or opened; waits for others who do the same."""
        with self._lock(fcntl.LOCK_EX, "", self.folder / ".making-studies", wait=True):
            yield

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Held while a model is exported; waits for another export."""
        with self._lock(fcntl.LOCK_EX, "", self.folder / ".exporting", wait=True):
            yield

    @contextmanager
    def retraining(self, study: str) -> Iterator[None]:
        """Held while a study's best trials are trained again; waits for another run that does so."""
        with self._lock(fcntl.LOCK_EX, "", self.trials / study / ".retraining", wait=True):
            yield

    @contextmanager
    def _lock(self, kind: int, why: str, path: Path | None = None, wait: bool = False) -> Iterator[None]:
        path = path or self.folder / ".lock"
        existed = path.parent.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = open(path, "a")  # noqa: SIM115  closed below; opening may fail on its own
        except OSError as error:
            raise SearchError(f"the workspace {self.folder} cannot be written: {error.strerror}") from error
        with handle:
            try:
                fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SearchError(f"the workspace {self.folder} is in use: {why}") from error
            try:
                yield
            finally:
                if not existed and [path] == list(path.parent.iterdir()):  # nothing came of it: leave no trace
                    path.unlink()
                    path.parent.rmdir()

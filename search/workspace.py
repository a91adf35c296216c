"""The workspace: one folder that holds a prepared set and everything that was searched on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from search.errors import SearchError
from studies.file_locks import lock
from studies.files import replacing

DEFAULT_FOLDER = "hpsearch-workspace"
OWN_FOLDERS = {"demo": "hpsearch-demo"}
"""Commands whose workspace is another one where the user names none."""


def default_folder(command: str) -> str:
    return OWN_FOLDERS.get(command, DEFAULT_FOLDER)


def current_fingerprint(workspace: Workspace) -> str | None:
    """Of the prepared set that the workspace holds now; None without one."""
    from data_prep.storage.reader import PreparedSet  # NumPy, which `hpsearch --help` has no use for

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
        with replacing(target, shared=True) as partial:
            shutil.copyfile(source, partial)
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
        with self._locked(".lock", refusal="a run or another prepare is at work in it; wait for it or stop it first"):
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Held while trials run; several runs may hold it. SearchError while a `prepare` is at work here."""
        with self._locked(".lock", shared=True, refusal="a prepare is at work in it; wait for it to end"):
            yield

    @contextmanager
    def making_studies(self) -> Iterator[None]:
        """Held while a study is made or opened; waits for others who do the same."""
        with self._locked(".making-studies"):
            yield

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Held while a model is exported; waits for another export."""
        with self._locked(".exporting"):
            yield

    @contextmanager
    def retraining(self, study: str) -> Iterator[None]:
        """Held while a study's best trials are trained again; waits for another run that does so."""
        with self._locked(f"trials/{study}/.retraining"):
            yield

    @contextmanager
    def _locked(self, name: str, *, shared: bool = False, refusal: str = "") -> Iterator[None]:
        """Holds a lock file of the workspace. Waits for other holders, unless a `refusal` says why it does not."""
        path = self.folder / name
        existed = path.parent.exists()
        try:
            handle = lock(path, shared=shared, wait=not refusal)
        except BlockingIOError as error:
            raise SearchError(f"the workspace {self.folder} is in use: {refusal}") from error
        except OSError as error:
            raise SearchError(f"the workspace {self.folder} cannot be written: {error.strerror}") from error
        with handle:
            try:
                yield
            finally:
                if not existed and [path] == list(path.parent.iterdir()):  # nothing came of it: leave no trace
                    path.unlink()
                    path.parent.rmdir()

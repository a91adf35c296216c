"""The workspace: a folder that holds a prepared set and everything that was searched on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from search.errors import SearchError
from studies.file_locks import holders, lock
from studies.files import replacing
from studies.shared_files import belongs

DEFAULT_FOLDER = "hpsearch-workspace"
DEFAULT_FOLDERS_BY_COMMAND = {"demo": "hpsearch-demo"}
"""Commands with a default workspace of their own."""


def default_folder(command: str) -> str:
    """Return the workspace folder of a command if the user names none."""
    return DEFAULT_FOLDERS_BY_COMMAND.get(command, DEFAULT_FOLDER)


def current_fingerprint(workspace: Workspace) -> str | None:
    """Return the fingerprint of the prepared set in the workspace; None if there is none."""
    from data_prep.storage.reader import PreparedSet  # late: it imports NumPy, which --help does not need

    try:
        return PreparedSet.open(workspace.prepared).fingerprint
    except DataError:
        return None


@dataclass(frozen=True)
class Workspace:
    """Paths inside a workspace folder, and locks between commands that must not run at the same time."""

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
        """Folder that may be removed at any time; commands create its files again when they need them."""
        return self.folder / "cache"

    @property
    def features(self) -> Path:
        """Folder of the cached output of frozen layers."""
        return self.cache / "features"

    @property
    def refits(self) -> Path:
        """Folder of trials refitted on training and validation images, and of the views that this needs."""
        return self.cache / "refits"

    @property
    def backbones(self) -> Path:
        """Folder of the `.keras` files that studies started from, each named by the hash of its content."""
        return self.folder / "backbones"

    def backbone_file(self, own: Mapping[str, str]) -> str:
        """Return where the file of a user's own backbone is kept; empty for any other backbone.

        Args:
            own: Identity of the backbone, as in `StudySettings.own_backbone`.
        """
        return str((self.backbones / f"{own['sha256']}.keras").resolve()) if "sha256" in own else ""

    def keep_backbone(self, source: str, own: Mapping[str, str]) -> Path | None:
        """Copy the file of a user's own backbone into the workspace, so that its studies do not need the original.

        Args:
            source: The user's file.
            own: Identity of the backbone, as in `StudySettings.own_backbone`.

        Returns:
            Path of the new copy; None if there is nothing to copy or a copy exists.
        """
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
        """Hold the lock for writing the prepared set.

        Raises:
            SearchError: A `run` or another `prepare` is using the workspace.
        """
        refusal = "`hpsearch run` or another `hpsearch prepare` is using it; wait until it ends, or stop it"
        with self._locked(".lock", refusal=refusal):
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock for running trials, which several runs may hold at the same time.

        Raises:
            SearchError: A `prepare` is using the workspace.
        """
        with self._locked(".lock", shared=True, refusal="`hpsearch prepare` is using it; wait until it ends"):
            yield

    def runs(self) -> int:
        """Return how many runs hold the workspace's shared lock."""
        return holders(self.folder / ".lock")

    @contextmanager
    def making_studies(self) -> Iterator[None]:
        """Hold the lock for creating or opening a study; wait for other holders."""
        with self._locked(".making-studies"):
            yield

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Hold the lock for exporting a model; wait for another export."""
        with self._locked(".exporting"):
            yield

    @contextmanager
    def retraining(self, study: str) -> Iterator[None]:
        """Hold the lock for training a study's best trials again; wait for another run that does so."""
        with self._locked(f"trials/{study}/.retraining"):
            yield

    @contextmanager
    def _locked(self, name: str, *, shared: bool = False, refusal: str = "") -> Iterator[None]:
        """Hold a lock file of the workspace; wait for other holders, or raise SearchError with a given `refusal`."""
        path = self.folder / name
        existed = path.parent.exists()
        try:
            handle = lock(path, shared=shared, wait=not refusal)
        except BlockingIOError as error:
            raise SearchError(f"the workspace {self.folder} is in use: {refusal}") from error
        except OSError as error:
            why = f"{error.strerror}; {belongs(path)}"
            raise SearchError(f"the workspace {self.folder} cannot be written ({why}): use a copy of it") from error
        with handle:
            try:
                yield
            finally:
                if not existed and [path] == list(path.parent.iterdir()):  # the folder was made for the lock alone
                    path.unlink()
                    path.parent.rmdir()

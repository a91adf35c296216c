"""Two people, one workspace: nobody locks the other out, and readers leave nothing behind."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_search import SETTINGS, opened_study

from search.cli import main
from search.errors import SearchError
from search.workspace import Workspace
from studies.errors import StudyError
from studies.shared_files import belongs, share_with_group
from studies.sqlite_reader import read_studies
from studies.storage import open_storage

OWNER, COLLEAGUE, GROUP = 61001, 61002, 61003
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as two users")


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Act as a user of GROUP, with the file mask that most systems have."""
    groups, group, mask = os.getgroups(), os.getegid(), os.umask(0o022)
    os.setgroups([GROUP])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
        os.umask(mask)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of OWNER's that others can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="hpsearch-test-"))
    opened_study(folder / "warm-up")  # imports what is imported late, which other users may not read
    for command in ("status", "compare"):
        hpsearch(folder / "warm-up", command)
    shutil.rmtree(folder / "warm-up")
    os.chown(folder, OWNER, GROUP)
    yield folder
    shutil.rmtree(folder)


def hpsearch(workspace: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["-w", str(workspace), *words])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owned_by(folder: Path, user: int) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.stat().st_uid == user)


@needs_root
@pytest.mark.parametrize("permissions", [0o2775, 0o2770])
def test_in_a_folder_of_the_group_everybody_works(permissions: int, shared: Path) -> None:
    shared.chmod(permissions)
    with acting_as(OWNER):
        assert hpsearch(shared, "status").exit_code == 1  # no studies yet; the command makes its files the group's
        opened_study(shared)
    private = [path for path in shared.rglob("*") if not mode(path) & stat.S_IWGRP]
    assert private == []
    with acting_as(COLLEAGUE):
        assert hpsearch(shared, "status", "--json").exit_code == 0
        opened_study(shared).enqueue_trial({"learning_rate": 0.5})
    with acting_as(OWNER):
        assert len(opened_study(shared).trials) == 1
        opened_study(shared).enqueue_trial({"learning_rate": 0.25})


@needs_root
def test_files_of_earlier_versions_become_the_groups_when_their_owner_comes(shared: Path) -> None:
    with acting_as(OWNER):
        opened_study(shared)
    shared.chmod(0o2775)
    assert mode(shared / "studies.db") == 0o644
    with acting_as(OWNER):
        hpsearch(shared, "status")
    assert mode(shared / "studies.db") == 0o664


@needs_root
@pytest.mark.parametrize("permissions", [0o755, 0o2775, 0o777])
def test_a_colleague_who_only_reads_leaves_nothing_behind(permissions: int, shared: Path) -> None:
    with acting_as(OWNER):
        opened_study(shared)
    shared.chmod(permissions)
    with acting_as(COLLEAGUE):
        for words in (["status"], ["status", "--json"], ["compare"]):
            assert hpsearch(shared, *words).exit_code == 0
        with pytest.raises(StudyError, match=r" belongs to user 61001, and you cannot write it: ask"):
            open_storage(shared / "studies.db")
        with tempfile.TemporaryDirectory() as own:
            copied = hpsearch(shared, "backup", f"{own}/copy.db")
            assert copied.exit_code == 0, copied.output
            assert [one.name for one in read_studies(Path(own, "copy.db"))] == [SETTINGS.name]
    assert owned_by(shared, COLLEAGUE) == []
    with acting_as(OWNER):
        opened_study(shared).enqueue_trial({"learning_rate": 0.5})


@needs_root
def test_a_colleague_reads_what_the_owner_is_writing_or_has_left_in_the_log(shared: Path) -> None:
    shared.chmod(0o777)
    with acting_as(OWNER):
        opened_study(shared)
    database = shared / "studies.db"
    with closing(sqlite3.connect(database)) as writer:
        os.chown(database, OWNER, OWNER)
        writer.execute("UPDATE studies SET study_name = 'renamed'")
        writer.commit()
        assert (shared / "studies.db-wal").stat().st_size > 0
        for name in ("studies.db-wal", "studies.db-shm"):
            os.chown(shared / name, OWNER, OWNER)
        with acting_as(COLLEAGUE):
            assert [one.title for one in read_studies(database)] == ["renamed"]
        killed = shared / "killed"
        killed.mkdir()
        for name in ("studies.db", "studies.db-wal"):  # as after a kill and a move without the index
            shutil.copy(shared / name, killed)
    with acting_as(COLLEAGUE):
        assert [one.title for one in read_studies(killed / "studies.db")] == ["renamed"]
    assert owned_by(shared, COLLEAGUE) == []


@needs_root
def test_a_file_that_locks_the_owner_out_is_named_with_its_owner(shared: Path) -> None:
    shared.chmod(0o777)
    with acting_as(OWNER):
        opened_study(shared)
    (shared / "studies.db-wal").touch()
    (shared / "studies.db-shm").write_bytes(b"")
    for name in ("studies.db-wal", "studies.db-shm"):
        os.chown(shared / name, COLLEAGUE, COLLEAGUE)
    (shared / "studies.db-wal").chmod(0o666)
    with acting_as(OWNER), pytest.raises(StudyError) as refused:
        open_storage(shared / "studies.db")
    assert "studies.db-shm belongs to user 61002, and you cannot write it" in str(refused.value)
    assert "studies.db-shm may be removed" in str(refused.value)


@needs_root
def test_a_workspace_that_cannot_be_written_is_named_with_its_owner(shared: Path) -> None:
    with acting_as(OWNER):
        opened_study(shared)
    with acting_as(COLLEAGUE), pytest.raises(SearchError) as refused, Workspace(shared).exclusive():
        pass
    assert f"{shared} cannot be written (Permission denied; {shared} belongs to user 61001)" in str(refused.value)


def test_only_shared_folders_widen_the_file_mask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        for permissions, expected in ((0o755, 0o077), (0o1777, 0o077), (0o775, 0o007), (0o2770, 0o007)):
            os.umask(0o077)
            tmp_path.chmod(permissions)
            share_with_group(tmp_path / "not" / "there")
            assert os.umask(0o077) == expected
    finally:
        os.umask(before)


def test_the_owner_of_a_missing_file_is_that_of_its_folder(tmp_path: Path) -> None:
    assert belongs(tmp_path / "a" / "b").startswith(f"{tmp_path} belongs to ")

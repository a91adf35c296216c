"""The database: damaged, foreign and network files are named; a backup is whole."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from fake_search import FAKE_SEARCH, SETTINGS, opened_study, searching
from optuna.storages._rdb.models import BaseModel
from sqlalchemy import create_engine

from search.cli import main
from search.workspace import Workspace
from studies.errors import StudyError
from studies.records import records_of
from studies.sqlite_file import check_place
from studies.storage import database_url, open_storage

Mount = namedtuple("Mount", "mountpoint fstype")


def test_a_database_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path), "nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    with pytest.raises(StudyError, match=r"on a network file system \(nfs4, .*name a workspace on a local disk"):
        check_place(tmp_path / "deep" / "studies.db")
    mounts.append(Mount(str(tmp_path / "deep"), "ext4"))  # a local disk mounted inside
    check_place(tmp_path / "deep" / "studies.db")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(StudyError, match=r"studies\.db is another program's database"):
        open_storage(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("tables", [1, 2, 6])
def test_a_database_whose_making_was_cut_off_is_made_whole(tables: int, tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    engine = create_engine(database_url(path))
    BaseModel.metadata.create_all(engine, tables=BaseModel.metadata.sorted_tables[:tables])
    engine.dispose()
    open_storage(path)
    with searching(tmp_path) as (search, _):
        search.run(1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_a_damaged_database_is_named_with_the_way_out(share: float, tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _):
        search.run(5)
        search.study._storage.remove_session()
    path = tmp_path / "studies.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    at = int(share * len(content))
    content[at : at + 9000] = bytes([85]) * 9000
    path.write_bytes(content)
    done = CliRunner().invoke(main, ["-w", str(tmp_path), "status"])
    assert done.exit_code == 1
    assert f"{path} cannot be opened as a study database" in done.output
    assert "bug in hpsearch" not in done.output and "Traceback" not in done.output


def test_a_backup_made_while_trials_are_stored_is_whole(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, str(FAKE_SEARCH), str(tmp_path), "12", "slow"])
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("trials/*/*/epochs.log")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None
        out = tmp_path / "elsewhere" / "copy.db"
        for _ in range(3):
            out.unlink(missing_ok=True)
            done = CliRunner().invoke(main, ["-w", str(tmp_path), "backup", str(out)])
            assert done.exit_code == 0, done.output
    finally:
        process.kill()
        process.wait()
    assert [path.name for path in out.parent.iterdir()] == ["copy.db"]
    workspace = Workspace(out.parent)
    out.rename(workspace.database)
    study = opened_study(workspace.folder)
    assert study.study_name == SETTINGS.name
    records_of(study)


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    opened_study(tmp_path)
    runner = CliRunner()
    assert runner.invoke(main, ["-w", str(tmp_path), "backup"]).exit_code == 0
    (made,) = (tmp_path / "backups").iterdir()
    done = runner.invoke(main, ["-w", str(tmp_path), "backup", str(made)])
    assert done.exit_code == 2
    assert "exists; name another file" in done.output
    nowhere = CliRunner().invoke(main, ["-w", str(tmp_path / "none"), "backup"])
    assert "there are no studies in" in nowhere.output

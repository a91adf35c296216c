"""A disk that is really full: each command stops with one line, and goes on once there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RUN = ("run", "--backbone", "small_cnn", "--epochs", "2", "--trials", "2")


def mount(place: Path, options: str) -> bool:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte; `enlarge` makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not mount(place, "size=1m"):
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def enlarge(place: Path, size: str) -> None:
    assert mount(place, f"remount,size={size}")


def free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def fill(place: Path, leave: int) -> Path:
    """A file that leaves so many bytes."""
    filler = place / "filler"
    filler.write_bytes(bytes(max(0, free(place) - leave)))
    return filler


def hpsearch(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "search", "-w", str(workspace), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=workspace.parent)


def assert_one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("Error: ") and "free some space" in message, done.stderr
    assert "Traceback" not in done.stderr and "a bug in hpsearch" not in done.stderr


def test_prepare_leaves_nothing_half_written(disk: Path, tiny_npz: Path) -> None:
    workspace = disk / "workspace"
    assert_one_line(hpsearch(workspace, "prepare", str(tiny_npz), "--levels", "strong"))
    assert not list(workspace.glob("prepared*"))
    enlarge(disk, "40m")
    assert hpsearch(workspace, "prepare", str(tiny_npz), "--levels", "strong").returncode == 0
    assert hpsearch(workspace, "check").returncode == 0


@pytest.mark.slow
def test_run_and_export_stop_and_go_on(disk: Path, tiny_workspace: Path) -> None:
    enlarge(disk, "40m")
    workspace = disk / "workspace"
    shutil.copytree(tiny_workspace, workspace)
    for leave in (20_000, 700_000):  # no room for the database; none for a trial's state
        filler = fill(disk, leave)
        assert_one_line(hpsearch(workspace, *RUN))
        filler.unlink()
    (row,) = json.loads(hpsearch(workspace, "status", "--json").stdout)
    assert (row["running"], row["waiting"]) == (0, 1)
    assert hpsearch(workspace, *RUN).returncode == 0
    (row,) = json.loads(hpsearch(workspace, "status", "--json").stdout)
    assert (row["complete"] + row["pruned"], row["fail"], row["running"], row["waiting"]) == (2, 0, 0, 0)
    filler = fill(disk, 100_000)
    assert_one_line(hpsearch(workspace, "export-best"))
    exports = workspace / "exports"
    assert not exports.exists() or not list(exports.iterdir())
    assert not (workspace / "test-readings.jsonl").exists()
    filler.unlink()
    assert hpsearch(workspace, "export-best").returncode == 0

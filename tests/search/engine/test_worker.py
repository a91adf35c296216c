"""How a training process can end, and what the search makes of it; its memory among other runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_search import FAKE_WORKER, searching
from real_command import environment

from data_prep.storage.machine import OWN_CGROUPS, Cgroups
from search.engine import worker
from search.engine.stop_request import StopRequest
from search.engine.worker import Worker
from search.workspace import Workspace
from studies.records import records_of

MB = 2**20


def test_a_process_that_closes_its_pipe_and_stays_is_killed_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STOP_TIMEOUT_S", 0.2)
    with searching(tmp_path, mode="closed-pipe") as (search, listener):
        search.run(3)
    given_up = [record.failure for record in records_of(search.study) if record.failure]
    assert {failure["kind"] for failure in given_up} == {"killed"}
    assert "closed its output, did not end within 0.2 s, and was killed" in given_up[0]["message"]
    assert all("trying it again" in line for line in listener.lines)


@pytest.mark.parametrize("name", ["memory.events", "nothing"])
def test_a_kill_for_lack_of_memory_is_told_from_somebody_s(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's counter rises only with the first kind."""
    counts = iter(range(100))

    class Counting(Cgroups):
        def memory_kills(self) -> int:
            return next(counts) if name == "memory.events" else 4

    monkeypatch.setattr(worker, "OWN_CGROUPS", Counting())
    with searching(tmp_path, mode="deadly") as (search, listener):
        search.run(4)
    kinds = {record.failure["kind"] for record in records_of(search.study) if record.failure}
    assert kinds == {"out-of-memory" if name == "memory.events" else "killed"}
    if name == "memory.events":
        assert "no more memory" in listener.lines[0]


def test_runs_share_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "free_memory", lambda: 1000 * MB)
    for runs, limit_mb in ((1, 900), (3, 300)):
        one = Worker(tmp_path / "log", FAKE_WORKER, runs=runs)
        one.process = one._start()
        one.stop()
        assert one.limit_mb == limit_mb
    with Workspace(tmp_path).shared(), Workspace(tmp_path).shared():
        assert Workspace(tmp_path).runs() == 2
    assert Workspace(tmp_path).runs() == 0


def test_threads_follow_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "processors", lambda: 2)
    for schedulable, threads in ((2, None), (64, "2")):
        monkeypatch.setattr(worker, "schedulable_processors", lambda count=schedulable: count)
        assert worker._threads().get("TF_NUM_INTRAOP_THREADS") == threads


def test_a_run_says_by_how_much_its_time_was_exceeded() -> None:
    now_s = [0.0]
    request = StopRequest(10, clock=lambda: now_s[0])
    for late_s, part in ((0.1, "The time is over"), (42.4, "The time is over, 42 s later than --time-budget")):
        now_s[0] = 10 + late_s
        assert request.time_is_over().startswith(part)
        assert ("later" in request.time_is_over()) == (late_s > 1)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A real control group of 400 MB; skipped where the system does not let us make one."""
    own = next(iter(OWN_CGROUPS.folders("memory")), None)
    group = (own or Path("/nowhere")) / f"hpsearch-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        limit = group / ("memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes")
        try:
            limit.write_text(str(400 * MB), encoding="utf-8")
        except OSError:
            pytest.skip("control groups cannot be limited here")
        yield group
    finally:
        group.rmdir()


IN_GROUP = """
import json, os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
from data_prep.storage.machine import free_memory
from fake_search import searching
from studies.records import records_of
free_mb = free_memory() // 2**20
with searching(Path(sys.argv[2]), "growing", memory_limit_mb=10**6) as (search, listener):
    search.run(3)
failures = [record.failure["kind"] for record in records_of(search.study) if record.failure]
print(json.dumps({"free_mb": free_mb, "kinds": failures, "lines": listener.lines}))
"""


@pytest.mark.slow
def test_the_kernel_s_kill_in_a_real_container_is_out_of_memory(small_group: Path, tmp_path: Path) -> None:
    support = Path(__file__).parents[2] / "support"
    env = environment()
    env["PYTHONPATH"] += f":{support}"
    command = [sys.executable, "-c", IN_GROUP, str(small_group), str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0 < found["free_mb"] <= 400
    assert found["kinds"] and set(found["kinds"]) == {"out-of-memory"}, found

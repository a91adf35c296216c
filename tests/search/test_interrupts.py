"""The real command interrupted while it imports, and its output without a reader: one line or none, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fake_search import FAKE_SEARCH, opened_study
from optuna.trial import TrialState
from real_command import HPSEARCH, environment, on_terminal, read_all, start

IMPORTED = """
import os, time
try:
    os.kill(os.getpid(), {number})
    time.sleep(5)
except KeyboardInterrupt:  # what NumPy makes of it
    raise ImportError("the C extensions failed")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["click", "tomllib", "numpy"])
def test_an_interrupt_in_the_middle_of_an_import_is_one_line(module: str, number: int, tmp_path: Path) -> None:
    opened_study(tmp_path)
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / f"{module}.py").write_text(IMPORTED.format(number=int(number)), encoding="utf-8")
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path / 'early'}:{env['PYTHONPATH']}"
    process = start("-w", str(tmp_path), "compare", "--trials", env=env)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, b"", b"Interrupted.\n")


def test_output_that_nobody_reads_is_dropped() -> None:
    for target in ("stdout", "stderr"):
        reader, writer = os.pipe()
        os.close(reader)
        process = start("backbones" if target == "stdout" else "nonsense", **{target: writer})
        os.close(writer)
        other = process.communicate(timeout=60)[target == "stdout"]
        assert process.returncode == (0 if target == "stdout" else 2)
        assert other == b""


def test_a_command_without_any_output_ends_well() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&- <&-', "sh", *HPSEARCH, "backbones"], env=environment(), timeout=60
    )
    assert done.returncode == 0


def searching_process(folder: Path, *before: str) -> tuple[subprocess.Popen[bytes], int]:
    command = (*before, HPSEARCH[0], str(FAKE_SEARCH), str(folder), "3", "quick")
    return on_terminal(command=command)


def wait_for_trials(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob("trials/*/*/epochs.log")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_search_goes_on_when_the_reader_of_its_output_ends(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen([HPSEARCH[0], str(FAKE_SEARCH), str(tmp_path), "3"], stdout=writer, stderr=-1)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
    assert [trial.state for trial in opened_study(tmp_path).trials] == [TrialState.COMPLETE] * 3


def test_a_search_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    process, terminal = searching_process(tmp_path, "sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    wait_for_trials(tmp_path)
    os.close(terminal)
    assert process.wait(60) == 0
    assert [trial.state for trial in opened_study(tmp_path).trials] == [TrialState.COMPLETE] * 3


def test_a_terminal_that_closes_interrupts_its_search(tmp_path: Path) -> None:
    process, terminal = searching_process(tmp_path)
    wait_for_trials(tmp_path)
    os.close(terminal)
    assert process.wait(60) != 0
    states = [trial.state for trial in opened_study(tmp_path).trials]
    assert TrialState.WAITING in states and TrialState.RUNNING not in states
    assert (tmp_path / "worker.log").read_text(encoding="utf-8") == ""


def test_a_terminal_shows_a_table() -> None:
    process, terminal = on_terminal("backbones", env=environment(COLUMNS="100", TERM="xterm"))
    assert "efficientnetv2s" in read_all(terminal)
    assert process.wait(60) == 0

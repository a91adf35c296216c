"""Tables on narrow terminals: whole figures, fewer columns, and always the score."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fake_search import SETTINGS
from real_command import environment, on_terminal, read_all, start

from studies.records import TrialEnd, store_record
from studies.storage import create_study, open_storage

SCORES = {"macro_f1": 0.8123, "corrupted_macro_f1": 0.7654, "worst_family_macro_f1": 0.6789, "mean_macro_f1": 0.7888}
WORDS = dict.fromkeys(("accuracy", "macro_precision", "macro_recall"), 0.8) | SCORES | {"worst_family": "noise"}
NAME = "efficientnetv2s-aaaaaaaa"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one study of a long name, with one complete trial."""
    folder = tmp_path_factory.mktemp("narrow")
    study = create_study(open_storage(folder / "studies.db"), replace(SETTINGS, backbone="efficientnetv2s"))
    trial = study.ask()
    cost = {"flops_per_image": 2_500_000_000, "weights_mb": 80.25}
    outcome = {"best": {"validation": WORDS}, "parameters": 20_331_360, "ms_per_image": 12.5, "cost": cost}
    store_record(trial, TrialEnd({"learning_rate": 0.1}, [{"value": 0.7888}], outcome, None, 4321.0))
    study.tell(trial, 0.7888)
    return folder


def shown(width: int, *arguments: str) -> list[str]:
    """The lines that a command shows on a terminal of this width."""
    process, terminal = on_terminal(*arguments, env=environment(COLUMNS=str(width), TERM="xterm", NO_COLOR="1"))
    text = read_all(terminal)
    assert process.wait(60) == 0, text
    return re.sub(r"\x1b\[[\d;]*m|\r", "", text).splitlines()


@pytest.mark.parametrize("width", [80, 60, 40, 30])
@pytest.mark.parametrize(
    ("command", "figures"),
    [
        (("compare",), {80: ("0.8123", "0.7654", "0.6789 (noise)"), 30: ("0.8123", "0.7654")}),
        (("compare", "--details"), {80: ("0.8123", "0.7654", "0.6789 (noise)"), 30: ("0.8123", "0.7654")}),
        (("status",), {80: ("0.7888", "1 h 12 min"), 30: ("0.7888",)}),
    ],
)
def test_a_narrow_terminal_shows_whole_figures_and_the_score(
    workspace: Path, command: tuple[str, ...], figures: dict[int, tuple[str, ...]], width: int
) -> None:
    lines = shown(width, "-w", str(workspace), *command)
    table = lines[: next((number for number, line in enumerate(lines) if number > 3 and not line.strip()), None)]
    assert max(map(len, table)) <= width, "\n".join(table)
    text = "\n".join(table)
    for figure in figures[80 if width >= 80 else 30]:
        assert figure in text
    name = "".join(line.split()[0] for line in table if line.startswith("  ") and line.split() and line[2] != " ")
    assert NAME in name.replace("study", "", 1)
    assert NAME in text or width < 60
    assert ("Left out at this width: " in "\n".join(lines)) == (width < 80 or command != ("compare",))


def test_the_backbones_fit_into_any_width() -> None:
    for width in (80, 60, 40):
        lines = shown(width, "backbones")
        assert max(map(len, lines[:-1])) <= width
        text = "\n".join(lines)
        assert "20,331,360" in text and "efficientnetv2s" in text


def test_a_pipe_gets_every_column(workspace: Path) -> None:
    env = environment(COLUMNS="40")
    out, errors = start("-w", str(workspace), "compare", "--details", env=env).communicate(timeout=60)
    assert errors == b""
    for part in ("0.8123", "0.7654", "0.6789 (noise)", "20,331,360", "12.5000", "80.2500", NAME, "ms/image"):
        assert part in out.decode()
    assert b"\x1b" not in out and b"Left out" not in out
    assert os.linesep not in out.decode().strip().splitlines()[0]

"""The list of readings of the test set outlives a line that was cut off."""

from __future__ import annotations

from pathlib import Path

from search.exporting.locked_test import add_reading, earlier_reading, readings
from search.workspace import Workspace


def test_a_reading_that_was_cut_off_stands_in_nobodys_way(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert readings(workspace) == []
    assert add_reading(workspace, "evaluate --test", {"weights_sha256": "a"}, {"accuracy": 1.0}) == 1
    with open(workspace.test_readings, "a", encoding="utf-8") as file:
        file.write('{"time": "2026-')
    assert len(readings(workspace)) == 1
    assert add_reading(workspace, "export-best", {"weights_sha256": "b"}, {"accuracy": 0.5}) == 2
    assert add_reading(workspace, "evaluate --test", {"weights_sha256": "b"}, {"accuracy": 0.5}) == 3
    assert earlier_reading(workspace, "b") == {"accuracy": 0.5}

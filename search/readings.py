"""Every reading of the locked test set, a line each in the workspace's test-readings.jsonl."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from search.workspace import Workspace


def readings(workspace: Workspace) -> list[dict[str, Any]]:
    """All readings so far, the oldest first."""
    if not workspace.test_readings.is_file():
        return []
    return [json.loads(line) for line in workspace.test_readings.read_text(encoding="utf-8").splitlines() if line]


def add_reading(workspace: Workspace, command: str, what: dict[str, Any], figures: dict[str, Any]) -> int:
    """Appends a reading; how many there are now. `what` identifies the model, `figures` what was read."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "command": command, **what, "figures": figures}
    with open(workspace.test_readings, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return len(readings(workspace))


def earlier_reading(workspace: Workspace, study: str, trial: int) -> dict[str, Any] | None:
    """The figures that `export-best` read for this trial, if it did."""
    for line in readings(workspace):
        if line["command"] == "export-best" and (line["study"], line["trial"]) == (study, trial):
            figures: dict[str, Any] = line["figures"]
            return figures
    return None

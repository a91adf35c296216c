"""Record every reading of the locked test set, one line each in the workspace's test-readings.jsonl."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

from search.errors import SearchError
from search.workspace import Workspace
from studies.shared_files import not_writable


def readings(workspace: Workspace) -> list[dict[str, Any]]:
    """Return all readings so far, oldest first."""
    if not workspace.test_readings.is_file():
        return []
    lines = workspace.test_readings.read_text(encoding="utf-8").splitlines()
    return [found for line in lines if (found := _parsed(line)) is not None]


def check_recordable(workspace: Workspace) -> None:
    """Check that a reading of the test set can be recorded; call it before reading.

    Raises:
        SearchError: The file of readings cannot be written.
    """
    if reason := not_writable([workspace.test_readings if workspace.test_readings.exists() else workspace.folder]):
        raise SearchError(f"{reason}: readings of the test set are recorded there, so use a copy of the workspace")


def add_reading(workspace: Workspace, command: str, what: dict[str, Any], figures: dict[str, Any]) -> int:
    """Append a reading, and return how many there are now.

    Args:
        command: Command that read the test set.
        what: Facts that identify the model.
        figures: Test figures that were read.
    """
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "command": command, **what, "figures": figures}
    with open(workspace.test_readings, "a+b") as file:
        file.seek(max(0, file.tell() - 1))
        newline_after_cut_line = b"\n" if file.read(1) not in (b"", b"\n") else b""  # after a crash or a full disk
        file.write(newline_after_cut_line + json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return len(readings(workspace))


def _parsed(line: str) -> dict[str, Any] | None:
    """Return the parsed line, or None if it was cut off."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


def earlier_reading(workspace: Workspace, weights_sha256: str) -> dict[str, Any] | None:
    """Return the test figures that `export-best` read for a model with these weights; None if it has not read any."""
    for line in readings(workspace):
        if line["command"] == "export-best" and line["weights_sha256"] == weights_sha256:
            figures: dict[str, Any] = line["figures"]
            return figures
    return None

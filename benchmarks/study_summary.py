"""Write a study as one JSON file: its settings, each trial's figures and times by epoch, and the export's test scores.

python benchmarks/study_summary.py WORKSPACE OUT.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from studies.records import TrialRecord, records_of
from studies.sqlite_reader import read_studies
from studies.storage import existing_storage, load_study
from studies.trial_tables import status_row

EPOCH_KEYS = ("step", "phase", "value", "training_loss", "learning_rate", "seconds", "images_per_second")


def rounded(value: Any) -> Any:
    """Round a float to four significant digits; return anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def trial_summary(record: TrialRecord) -> dict[str, Any]:
    """Return a trial's entry in the file."""
    outcome = {key: rounded(value) for key, value in record.outcome.items() if key != "best"}
    return {
        "number": record.number,
        "state": record.state,
        "value": record.value,
        "seconds": round(record.seconds, 1),
        "failure": record.failure,
        "hyperparameters": {key: rounded(value) for key, value in record.hyperparameters.items()},
        **outcome,
        "epochs": [[rounded(epoch[key]) for key in EPOCH_KEYS] for epoch in record.epochs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    workspace, out = arguments.workspace, arguments.out
    storage = existing_storage(workspace / "studies.db")
    readings = workspace / "test-readings.jsonl"
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("keras", "tensorflow", "optuna", "numpy")},
        "epoch_columns": EPOCH_KEYS,
        "studies": [
            {
                "settings": asdict(study.settings),
                "status": status_row(study),
                "trials": [trial_summary(record) for record in records_of(load_study(storage, study.name))],
            }
            for study in read_studies(workspace / "studies.db")
        ],
        "test_readings": [json.loads(line) for line in readings.read_text().splitlines()] if readings.exists() else [],
    }
    out.write_text(compact(json.dumps(report, indent=1)) + "\n")


def compact(text: str) -> str:
    """Put each list of plain values, such as an epoch, on one line."""
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)


if __name__ == "__main__":
    main()

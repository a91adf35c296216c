"""Kill runs, run many at once and damage files, and count lost, repeated, altered and stuck trials from outside.

    python benchmarks/soak.py fast FOLDER OUT.json
    python benchmarks/soak.py training FOLDER OUT.json
    python benchmarks/soak.py memory FOLDER OUT.json
    python benchmarks/soak.py files FOLDER OUT.json
    python benchmarks/soak.py show OUT.json

    fast        1,000 trials that train nothing, 8 runs at once, 200 kills, a dashboard beside them
    training    30 TensorFlow trainings of the small network, 20 kills, compared with an uninterrupted study
    memory      50 TensorFlow trainings: how the memory of the processes grows
    files       500 damaged inputs of each kind

Each part adds its figures to OUT.json. Interrupted, it continues from what FOLDER holds. The counts come from SQL and
from the files that trainings leave, not from hpsearch's own code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soak_parts.fast import fast
from soak_parts.processes import ROOT
from soak_parts.training import memory, training


def files(folder: Path, examples: int) -> dict[str, Any]:
    """Run the property tests in tests/data_prep/sources/test_untrusted_files.py, with more inputs of each kind."""
    report = folder / "files.xml"
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"HPSEARCH_EXAMPLES": str(examples)}
    tests = str(ROOT / "tests" / "data_prep" / "sources" / "test_untrusted_files.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tests, f"--junitxml={report}"], cwd=ROOT, env=environment, check=False
    )
    return {
        "inputs of each kind": examples,
        "exit code of the tests": done.returncode,
        "tracebacks": int(done.returncode != 0),
    }


PARTS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, int]]] = {
    "fast": (fast, {"trials": 1000, "at_once": 8, "kills": 200}),
    "training": (training, {"trials": 30, "kills": 20}),
    "memory": (memory, {"trials": 50}),
    "files": (files, {"examples": 500}),
}
"""Command -> (its function, its options with their defaults)."""


def show(out: Path) -> None:
    report = json.loads(out.read_text())
    for name, part in report["parts"].items():
        print(f"{name} ({part['date']}, {part['machine']}):")
        for key, value in part.items():
            if key not in ("date", "machine"):
                print(f"  {key}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    for name, (_, sizes) in PARTS.items():
        part = commands.add_parser(name)
        part.add_argument("folder", type=Path)
        part.add_argument("out", type=Path)
        for size, value in sizes.items():
            part.add_argument(f"--{size.replace('_', '-')}", type=int, default=value, help=f"default: {value:,}")
    commands.add_parser("show", help="print all figures").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.part == "show":
        show(options.out)
        return
    function, sizes = PARTS[options.part]
    found = function(options.folder.resolve(), **{size: getattr(options, size) for size in sizes})
    report = json.loads(options.out.read_text()) if options.out.exists() else {"parts": {}}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report["parts"][options.part] = found | {"date": datetime.now(UTC).date().isoformat(), "machine": machine}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(options.out)


if __name__ == "__main__":
    main()

"""Every benchmark starts: its help is shown, so that its imports and its arguments hold."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

OURS = ("data_prep", "models", "search", "studies")
FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


def test_there_are_benchmarks() -> None:
    assert {"versus.py", "soak.py", "preparation.py"} < set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_starts_by_its_path_and_says_so(name: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}  # it hides the folder
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}", "--help"],
        capture_output=True,
        text=True,
        cwd=FOLDER.parent,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert f"python benchmarks/{name}" in done.stdout  # the help begins with the commands of the docstring
    for page in (FOLDER / "README.md", *FOLDER.glob("*.py")):
        assert "python -m benchmarks." not in page.read_text(encoding="utf-8"), page


def test_what_benchmarks_import_when_their_functions_are_called_is_there() -> None:
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


def test_an_unknown_backbone_is_one_clear_line() -> None:
    command = [sys.executable, str(FOLDER / "contract.py"), "run", "out.json", "no_such_network"]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "unknown backbone 'no_such_network': `hpsearch backbones` lists" in done.stderr
    assert "Traceback" not in done.stderr

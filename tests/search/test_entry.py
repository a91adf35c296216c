"""Where a user has packages of our names, on PYTHONPATH or in the current folder, ours are imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

import hpsearch_entry
from models.backbones.own_code import OWN_PACKAGES
from models.backbones.user_networks import network_from_function
from models.errors import ModelError
from models.formats import registry
from search.engine.own_python import own_module

ROOT = Path(__file__).parents[2]
NAMES = hpsearch_entry.PACKAGES
CONSOLE_SCRIPT = "import sys\nfrom hpsearch_entry import main\nsys.exit(main())\n"  # as pip writes it


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, and the script."""
    target = tmp_path_factory.mktemp("installed")
    for name in NAMES:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "hpsearch_entry.py", target)
    (target / "bin").mkdir()
    (target / "bin" / "hpsearch").write_text(CONSOLE_SCRIPT)
    return target


def users_own(folder: Path, kind: str, names: Sequence[str] = NAMES) -> Path:
    """Fill `folder` with a user's modules of our names: packages, files, or folders without __init__.py."""
    for name in names:
        target = folder / f"{name}.py" if kind == "file" else folder / name / "__init__.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "namespace":
            target = target.with_name("errors.py")
        target.write_text("raise ImportError('the module of the user was imported')")
    return folder


def output(command: Sequence[str | Path], folder: Path, *python_path: Path) -> str:
    """Return what a command prints that is run in a folder, with these folders on PYTHONPATH."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, python_path))}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_holds_our_packages_and_the_start() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"hpsearch": "hpsearch_entry:main"}
    assert project["tool"]["setuptools"]["py-modules"] == ["hpsearch_entry"]
    assert set(NAMES) == set(OWN_PACKAGES) == set(registry.OWN_PACKAGES)


@pytest.mark.parametrize("name", NAMES)
def test_a_package_of_the_user_does_not_replace_ours(name: str, tmp_path: Path, installed: Path) -> None:
    user = users_own(tmp_path, "package", [name])
    shown = output([sys.executable, installed / "bin" / "hpsearch", "enqueue", "--help"], user, user, installed)
    assert "KEY=VALUE" in shown


@pytest.mark.parametrize("kind", ["package", "file", "namespace"])
def test_no_kind_of_module_replaces_ours_in_child_processes(kind: str, tmp_path: Path) -> None:
    user = users_own(tmp_path, kind)
    assert "KEY=VALUE" in output(own_module("search", "enqueue", "--help"), user, user)
    assert output(own_module("search.engine.worker_process"), user, user) == ""


def test_a_backbone_that_needs_a_package_of_our_name_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_networks.py").write_text("from models import blocks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ModelError, match="hpsearch has a package 'models' itself, so give yours another name"):
        network_from_function(None, False, (8, 8, 3), "my_networks:tiny")


NETWORK = """
import keras


def tiny(weights, include_top, input_shape):
    image = keras.Input(input_shape)
    return keras.Model(image, keras.layers.Conv2D(4, 3, strides=4)(image))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["package", "file"])
def test_the_whole_way_beside_modules_of_our_names(kind: str, tmp_path: Path, installed: Path) -> None:
    user = users_own(tmp_path, kind)
    (user / "my_networks.py").write_text(NETWORK)
    hpsearch = [sys.executable, installed / "bin" / "hpsearch", "-w", "w"]
    output([*hpsearch, "prepare", "demo", "--limit", "200", "--copies", "1"], user, user, installed)
    run = ["run", "--backbone", "my_networks:tiny", "--trials", "1", "--epochs", "1"]
    assert "1/1" in output([*hpsearch, *run], user, user, installed)
    done = output([*hpsearch, "export-best", "--out", "out"], user, user, installed)
    assert "reloaded in a fresh process" in done
    assert "accuracy" in output([*hpsearch, "evaluate", "out", "--test"], user, user, installed)

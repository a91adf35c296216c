"""Who may import whom: between packages, and between the rooms of a package. No cycles, since the order is fixed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import data_prep
import models
import search
import studies

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "data_prep": set[str](),
    "models": set[str](),
    "studies": set[str](),
    "search": {"data_prep", "models", "studies"},
}
"""Package -> the packages that it may import besides itself."""
ROOMS = {
    "data_prep": (
        *("errors", "progress", "settings", "storage", "sources", "cleaning", "splitting", "corruption"),
        *("augmentation", "external_sets", "fingerprint", "report", "prepare", "check"),
    ),
    "models": (
        "errors",
        "keras_config",
        "files",
        "keras_versions",
        "out_of_memory",
        "hyperparameters",
        "backbones",
        "networks",
        "scoring",
        "feeding",
        "training",
        "formats",
    ),
    "search": (
        *("interrupts", "errors", "workspace", "engine", "terminal", "planning", "winners", "exporting", "evaluating"),
        *("run_studies", "commands", "cli", "__main__"),
    ),
}
"""Package -> its rooms (folders, and files outside of them) from the lowest up: each may import those before it."""
MOST_ENTRIES = 15
OF_ONE_KIND = ("search/commands", "data_prep/sources", "studies")
"""Folders all of whose files are of one kind, which may have more entries."""


def _imports(path: Path) -> set[str]:
    """Dotted names of the modules and names that a file imports, those imported late and for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(dotted: str, package: str) -> str | None:
    """The room that a dotted name of a package lies in; None of the package itself."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == package and len(parts) > 1 else None


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_whom_they_may(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        found = {name.split(".")[0] for name in _imports(path)} & set(PACKAGES)
        assert found <= PACKAGES[package] | {package}, path


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_lower_rooms(package: str) -> None:
    rooms = ROOMS[package]
    for path in (ROOT / package).rglob("*.py"):
        place = path.relative_to(ROOT / package).with_suffix("").parts[0]
        if place == "__init__":
            continue
        allowed = rooms[: rooms.index(place) + 1]
        used = {room for name in _imports(path) if (room := _room(name, package)) is not None}
        assert used <= set(allowed), f"{path.relative_to(ROOT)} imports {used - set(allowed)}"


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place_in_the_table(package: str) -> None:
    entries = [path for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert {path.stem for path in entries} - {"__init__"} == set(ROOMS[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_are_small_and_say_what_is_in_them(package: str) -> None:
    for folder in [ROOT / package, *(path.parent for path in (ROOT / package).rglob("*/__init__.py"))]:
        entries = [path for path in folder.iterdir() if path.name != "__pycache__"]
        name = str(folder.relative_to(ROOT))
        assert len(entries) <= MOST_ENTRIES or name in OF_ONE_KIND, f"{name} has {len(entries)} entries"
        map_text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert map_text and len(map_text.splitlines()) <= 10, name


@pytest.mark.parametrize("package", PACKAGES)
def test_maps_name_files_that_are_there(package: str) -> None:
    for path in (ROOT / package).rglob("__init__.py"):
        words = path.read_text(encoding="utf-8").replace(",", " ").replace(":", " ").replace(")", " ").split()
        named = [word.strip("(;.") for word in words if word.strip("(;.").endswith((".py", ".md", ".html"))]
        missing = [name for name in named if not list(path.parent.glob(name)) and not (ROOT / name).exists()]
        assert not missing, f"{path.relative_to(ROOT)} names {missing}"


def test_our_packages_are_tested_and_not_others_of_their_names() -> None:
    for package in (data_prep, models, search, studies):
        assert package.__file__ and Path(package.__file__).is_relative_to(ROOT)


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_studies_know_no_keras_and_models_no_optuna() -> None:
    for package, stranger in (("studies", "keras"), ("models", "optuna"), ("data_prep", "optuna")):
        for path in (ROOT / package).rglob("*.py"):
            assert f"import {stranger}" not in path.read_text(), path

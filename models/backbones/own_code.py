"""The code of a user's `module:function`: imports its module, and hashes the files that the module is made of."""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

from models.errors import ModelError

OWN_PACKAGES = ("data_prep", "models", "search", "studies")
"""hpsearch's packages, which are imported in place of a user's own of these names."""
INSTALLED = ("site-packages", "dist-packages")


def imported(module_name: str) -> ModuleType:
    """Import a user's module: from the installed modules first, and then from the current folder.

    Raises:
        ModelError: There is no such module.
    """
    current_folder = os.getcwd()
    if current_folder not in sys.path:
        sys.path.append(current_folder)  # at the end, so that no user's file replaces one of our packages
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if ours := {(error.name or "").partition(".")[0], module_name.partition(".")[0]} & set(OWN_PACKAGES):
            way_out = f"hpsearch has a package {ours.pop()!r} itself, so give yours another name"
        else:
            way_out = f"run hpsearch in the folder of {module_name}.py, or install the module"
        raise ModelError(f"{module_name} cannot be imported ({error}): {way_out}") from error
    _sha256(module)  # hashed now: its files may change while this process still runs the code in memory
    return module


def code_sha256(function: str) -> str:
    """Return the SHA-256 of the files behind `module:function`: its module, and those it imports from the same folder.

    Modules of other folders, such as installed packages, are left out, and so are modules without a Python file.
    """
    return _sha256(imported(function.partition(":")[0]))


@cache
def _sha256(module: ModuleType) -> str:
    if not (module.__file__ or "").endswith(".py"):
        return ""
    path = Path(module.__file__ or "")
    package = module.__name__.split(".")
    depth = len(package) - (path.name != "__init__.py")
    root = path.parents[depth]  # the folder in which the import found the module
    first = package[0] if any(part in INSTALLED for part in root.parts) else ""
    total = hashlib.sha256()
    for name, content in sorted(_files(module.__name__, root, first).items()):
        total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def _files(module_name: str, root: Path, first: str) -> dict[str, bytes]:
    """Return the content of a module's file and of those it imports, by name relative to `root`.

    Args:
        module_name: Dotted name of the module.
        root: Folder of the modules that belong to the user's code.
        first: Package that they must lie in; empty: any in `root`.
    """
    found: dict[str, bytes] = {}
    waiting = [module_name]
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        if first and parts[0] != first:
            continue
        # A name may be a module, a package or something in one; packages above it are imported too.
        for place in (root.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)):
            for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                key = path.relative_to(root).as_posix()
                if key not in found and path.is_file():
                    found[key] = path.read_bytes()
                    with suppress(SyntaxError, ValueError):  # imported late or never
                        waiting += _imports(found[key], path.parent.relative_to(root).parts)
    return found


def _imports(code: bytes, package: tuple[str, ...]) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere, relative ones as seen from its package."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            start = [*above, *(node.module or "").split(".")]
            yield from (".".join(part for part in [*start, alias.name] if part) for alias in node.names)

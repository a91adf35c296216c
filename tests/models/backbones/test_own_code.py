"""The hash of a user's function covers the files it is made of, and no others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models.backbones.own_code import code_sha256

FILES = {
    "family/__init__.py": "",
    "family/nets.py": "from .parts import block\nfrom family import names\nimport helper\ndef f(): import late",
    "family/parts.py": "import json\nblock = 1",
    "family/names.py": "",
    "family/unused.py": "",
    "helper.py": "import deep.deeper",
    "deep/__init__.py": "",
    "deep/deeper.py": "",
    "late.py": "def broken(:",
    "other.py": "",
}
USED = {"family/__init__.py", "family/nets.py", "family/parts.py", "family/names.py", "helper.py", "deep/__init__.py",
        "deep/deeper.py", "late.py"}  # fmt: skip


@pytest.mark.parametrize("installed", [False, True])
def test_a_hash_is_of_the_files_that_a_function_is_made_of(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / ("site-packages" if installed else "code")
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def hashed() -> str:
        for name in ("family", "family.nets", "family.parts", "family.names", "helper", "deep", "deep.deeper"):
            sys.modules.pop(name, None)
        return code_sha256("family.nets:f")

    first = hashed()
    assert hashed() == first
    changing = set()
    for name, text in FILES.items():
        (root / name).write_text(text + "\n# changed")
        changing |= {name} if hashed() != first else set()
        (root / name).write_text(text)
    assert changing == ({name for name in USED if name.startswith("family")} if installed else USED)


def test_code_is_hashed_as_it_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_later.py").write_text("")
    first = code_sha256("edited_later:f")
    (tmp_path / "edited_later.py").write_text("# the code in memory is still the old one")
    assert code_sha256("edited_later:f") == first

"""Which version of Keras wrote a `.keras` file. Importing this module does not import Keras."""

from __future__ import annotations

import json
import re
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONFIG, METADATA = "config.json", "metadata.json"
"""Members of a `.keras` file: the configuration of its model, and who wrote it."""
UNREADABLE = (OSError, zipfile.BadZipFile, KeyError, ValueError)
"""Errors of a file that is no `.keras` file."""


def newer_keras(path: Path | str) -> str | None:
    """Return one line that names both versions if a newer Keras than the installed one wrote a `.keras` file."""
    ours = version("keras")
    try:
        theirs = str(read_member(Path(path), METADATA)["keras_version"])
    except UNREADABLE:
        return None
    if version_number(theirs) <= version_number(ours):
        return None
    return (
        f"{path} was written by Keras {theirs} and does not work with Keras {ours}, which is installed: "
        f"pip install 'keras>={theirs}', or save the model again with Keras {ours}"
    )


def keras_2(path: Path | str) -> str | None:
    """Return one line on how to convert a `.keras` file if Keras 2 wrote it; Keras 3 opens few of them."""
    try:
        theirs = str(read_member(Path(path), METADATA)["keras_version"])
    except UNREADABLE:
        return None
    if version_number(theirs) >= (3,):
        return None
    stem = Path(path).with_suffix("")
    return (
        f"{path} was written by Keras {theirs} and does not open with Keras 3: install tf_keras, convert it "
        f'with `TF_USE_LEGACY_KERAS=1 python -c "import tf_keras; '
        f"tf_keras.models.load_model('{path}').save('{stem}.h5')\"`, "
        "and then the .h5 file with Keras 3"
    )


def read_member(path: Path, member: str) -> Any:
    """Return the content of a JSON member of a `.keras` file. Raises one of UNREADABLE."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(member))


def version_number(text: str) -> tuple[int, ...]:
    """Return a version as numbers that compare: "3.15.1" -> (3, 15, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])

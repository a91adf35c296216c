"""Read a TOML file that a user wrote, with any editor."""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from studies.errors import StudyError


def read_toml(file: Path | Traversable, what: str) -> dict[str, Any]:
    """Return the file's content. A byte order mark, as some editors write it, is skipped.

    Args:
        file: The file.
        what: Name of the file in error messages.

    Raises:
        StudyError: The file cannot be read, is not UTF-8, or is not valid TOML.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "\0" in text:  # UTF-16 without a byte order mark
            raise StudyError(f"{what} is not UTF-8 text: save it as UTF-8")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise StudyError(f"{what} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"{what} cannot be read as TOML: {error}") from error

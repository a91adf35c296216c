"""Check for unknown or misspelt keys in settings files."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from studies.errors import StudyError


def check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that all keys are known.

    Args:
        given: Keys to check.
        known: Allowed keys.
        where: Name of the file or table in the error message.

    Raises:
        StudyError: A key is unknown; the message names the closest known one.
    """
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known) or 'none'}"
            raise StudyError(f"{where}: unknown key `{key}`; {hint}")

"""Errors that a user can fix, a class per package. Only the command line turns them into Click's errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.errors import DataError
from models.errors import ModelError
from studies.errors import StudyError, way_back
from studies.shared_files import belongs


class SearchError(ValueError):
    """Error: the search cannot continue as asked. The one-line message says why and what to do.

    Attributes:
        details: Lines that the command line prints above the message.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


def disk_full(why: str) -> SearchError:
    """Return the error that ends a run because the disk is full."""
    return SearchError(f"the disk is full ({why}): free some space, then run the same command again to continue")


USER_ERRORS = (DataError, ModelError, StudyError, SearchError)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)


def outside_cause(error: BaseException) -> str | None:
    """Return the message for an error that is neither the user's mistake nor a bug, such as a full disk.

    None for any other error.
    """
    for cause in _chain(error):
        text = " ".join(str(cause).split())
        if (isinstance(cause, OSError) and cause.errno in FULL) or "database or disk is full" in text:
            place = f" ({cause.filename})" if isinstance(cause, OSError) and cause.filename else ""
            return f"the disk is full{place}: free some space, then run the same command again to continue"
        if isinstance(cause, OSError) and cause.errno in FORBIDDEN and cause.filename:
            why = f"{cause.filename} cannot be read or written ({cause.strerror}; {belongs(Path(cause.filename))})"
            return f"{why}: change its permissions, or use another path"
        if "database is locked" in text:
            return (
                "another program has locked the study database for over a minute: close programs that have studies.db "
                "open, then run the same command again to continue"
            )
        if "readonly database" in text:
            return f"the study database cannot be written ({text[:100]}): see who owns the files studies.db*"
        if "disk image is malformed" in text or "disk I/O error" in text:
            return (
                f"the study database cannot be read or written ({text[:100]}): free some space if the disk is full; if "
                f"it is damaged, {way_back('studies.db')}"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

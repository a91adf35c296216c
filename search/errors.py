"""The errors that a user can mend, each package's own; the command line alone turns them into Click's."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from data_prep.errors import DataError
from models.errors import ModelError
from studies.errors import StudyError, way_back


class SearchError(ValueError):
    """The search cannot go on as asked; the message says why and what to do, in one line.

    Attributes:
        details: lines that the command line shows above the message.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


def disk_full(why: str) -> SearchError:
    """That ends a run whose trials find no room."""
    return SearchError(f"the disk is full ({why}): free some space, and the same command goes on")


USER_ERRORS = (DataError, ModelError, StudyError, SearchError)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)


def outside_cause(error: BaseException) -> str | None:
    """What to tell of an error that is neither a mistake of the user nor a bug: a full disk, a damaged database. None
    for any other."""
    for cause in _chain(error):
        text = " ".join(str(cause).split())
        if (isinstance(cause, OSError) and cause.errno in FULL) or "database or disk is full" in text:
            place = f" ({cause.filename})" if isinstance(cause, OSError) and cause.filename else ""
            return f"the disk is full{place}: free some space, and the same command goes on"
        if isinstance(cause, OSError) and cause.errno in FORBIDDEN and cause.filename:
            return f"{cause.filename} cannot be read or written ({cause.strerror}): change its rights, or name another"
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

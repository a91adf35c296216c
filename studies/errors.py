"""Errors of the package `studies`."""


class StudyError(ValueError):
    """Error: a study cannot be defined, opened or read as asked. The one-line message says why and what to do."""


def way_back(name: str) -> str:
    """Return the end of an error message that says how to replace a damaged database of this file name."""
    return f"delete {name}, {name}-wal and {name}-shm, then restore a copy made with `hpsearch backup`"

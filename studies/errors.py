"""The errors of `studies`."""


class StudyError(ValueError):
    """A study cannot be defined, opened or read as asked; the message says why and what to do, in one line."""


def way_back(name: str) -> str:
    """What to do about a damaged database of this name."""
    return f"remove {name}, {name}-wal and {name}-shm, and put a file that `hpsearch backup` made in its place"

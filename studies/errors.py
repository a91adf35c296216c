"""The errors of `studies`."""


class StudyError(ValueError):
    """A study cannot be defined, opened or read as asked; the message says why and what to do, in one line."""

"""The error that data_prep raises for every problem that a user can fix."""


class DataError(ValueError):
    """A problem that the user can fix. The one-line message states the rule, the value found, and a fix."""

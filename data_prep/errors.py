"""The one error that data_prep raises for anything a user can mend."""


class DataError(ValueError):
    """One line: the rule, the value found, the way out."""

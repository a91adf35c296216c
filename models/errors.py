"""The errors of `models`."""


class ModelError(ValueError):
    """A network cannot be built, trained or exported as asked; the message says why and what to do, in one line."""


class DivergedError(ModelError):
    """Training left the finite numbers or collapsed to one class; the trial is of no use."""

"""Errors raised by the package `models`."""


class ModelError(ValueError):
    """A failure to build, train or export a network as asked. The one-line message says why and what to do."""


class DivergedError(ModelError):
    """A trial whose values are no longer finite, or whose predictions collapsed to one class. Its result is useless."""

"""Keras without the greetings of TensorFlow's C++ part, for commands that a person watches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def import_keras() -> None:
    """Imports Keras; what is written to standard error meanwhile is dropped, as no setting silences its first lines.

    When the import fails, its exception says why.
    """
    with without_stderr():
        import keras  # noqa: F401


@contextmanager
def without_stderr() -> Iterator[None]:
    """Drops what is written to standard error, by C++ parts too."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

"""Import large packages faster, and without their output on standard error."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Pause garbage collection, and exempt the objects that exist at the end from later collections.

    Imports make objects that stay. The collector scans TensorFlow's again and again, for a quarter of the import time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def without_stderr() -> Iterator[None]:
    """Discard standard error, also from C++ code, because no setting silences TensorFlow's first lines."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

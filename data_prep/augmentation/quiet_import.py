"""How large packages are imported: sooner, and without what they write to standard error."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected meanwhile, and never of what is there at the end: imports make objects that stay, and
    going through TensorFlow's again and again takes a quarter of the time of its import."""
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
    """Drops what is written to standard error, by C++ parts too: no setting silences TensorFlow's first lines."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

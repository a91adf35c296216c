"""How processes import Keras: with the quicker kernels, and without the greetings of TensorFlow's C++ part."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

KERNELS: Mapping[str, str] = MappingProxyType({"TF_ENABLE_ONEDNN_OPTS": "1"})
"""Environment variables, unless they are set. TensorFlow has oneDNN's kernels on by default where the processor has
instructions made for neural networks alone; they are quicker on others too (benchmarks/step_speed.py)."""


def import_keras() -> None:
    """Imports Keras with KERNELS, where it is not imported yet; what is written to standard error meanwhile is dropped,
    as no setting silences its first lines.

    When the import fails, its exception says why.
    """
    for name, value in KERNELS.items():
        os.environ.setdefault(name, value)
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

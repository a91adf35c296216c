"""How processes import Keras: with the quicker kernels, and without the greetings of TensorFlow's C++ part."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

from data_prep.augmentation.quiet_import import undisturbed, without_stderr

KERNELS: Mapping[str, str] = MappingProxyType({"TF_ENABLE_ONEDNN_OPTS": "1"})
"""Environment variables, unless they are set. TensorFlow has oneDNN's kernels on by default where the processor has
instructions made for neural networks alone; they are quicker on others too (benchmarks/step_speed.py)."""


def import_keras() -> None:
    """Imports Keras with KERNELS, where it is not imported yet; what is written to standard error meanwhile is dropped.

    When the import fails, its exception says why.
    """
    for name, value in KERNELS.items():
        os.environ.setdefault(name, value)
    if "keras" in sys.modules:
        return
    with undisturbed(), without_stderr():
        import keras  # noqa: F401

"""Import Keras with the faster CPU kernels and without the start-up messages of TensorFlow's C++ code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

from data_prep.augmentation.quiet_import import undisturbed, without_stderr

KERNELS: Mapping[str, str] = MappingProxyType({"TF_ENABLE_ONEDNN_OPTS": "1"})
"""Environment variables to set unless the user has set them. By default TensorFlow uses oneDNN's kernels only on
processors with special instructions for neural networks; they are faster on others too (benchmarks/step_speed.py)."""


def import_keras() -> None:
    """Import Keras with KERNELS, unless it is imported already, and drop what it writes to standard error.

    If the import fails, its exception says why.
    """
    for name, value in KERNELS.items():
        os.environ.setdefault(name, value)
    if "keras" in sys.modules:
        return
    with undisturbed(), without_stderr():
        import keras  # noqa: F401

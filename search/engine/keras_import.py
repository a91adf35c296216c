"""Import Keras with the faster CPU kernels and without the start-up messages of TensorFlow's C++ code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

from data_prep.augmentation.quiet_import import undisturbed, without_stderr
from models.errors import ModelError
from models.keras_config import check_backend, set_aside, set_defaults

KERNELS: Mapping[str, str] = MappingProxyType({"TF_ENABLE_ONEDNN_OPTS": "1"})
"""Environment variables to set unless the user has set them. By default TensorFlow uses oneDNN's kernels only on
processors with special instructions for neural networks; they are faster on others too (benchmarks/step_speed.py)."""


def import_keras() -> None:
    """Import Keras with KERNELS and its own defaults, and drop what it writes to standard error.

    Raises:
        ModelError: Its settings on this machine are wrong, or it cannot be imported.
    """
    for name, value in KERNELS.items():
        os.environ.setdefault(name, value)
    if "keras" in sys.modules:
        return
    name = check_backend()
    set_aside()
    try:
        with undisturbed(), without_stderr():
            import keras
    except Exception as error:  # each backend fails in its own way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ModelError(f"Keras cannot be imported with the backend {name}: {reason}") from error
    set_defaults(keras)

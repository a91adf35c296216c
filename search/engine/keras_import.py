"""Import Keras with the faster CPU kernels and without the start-up messages of TensorFlow's C++ code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from data_prep.augmentation.quiet_import import undisturbed, without_stderr
from models.errors import ModelError
from models.keras_config import check_backend, set_aside, set_defaults

DEVICES = Path("/dev")
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
DEFAULT_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        # By default TensorFlow uses oneDNN's kernels only on processors with special instructions for neural networks;
        # they are faster on others too (benchmarks/step_speed.py).
        "TF_ENABLE_ONEDNN_OPTS": "1",
        # Otherwise a process takes all memory of a GPU (TensorFlow) or three quarters of it (JAX), and `evaluate` or
        # `predict` finds none beside a run.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
)
"""Environment variables of every process that imports Keras, unless the user has set them."""


def default_environment() -> dict[str, str]:
    """Return DEFAULT_ENVIRONMENT, and the first GPU as the only visible one, since a process trains on one alone."""
    return {**DEFAULT_ENVIRONMENT, **({VISIBLE_GPUS: "0"} if nvidia_devices() else {})}


def nvidia_devices() -> list[str]:
    """Return the paths of this machine's NVIDIA GPUs, whether or not the backend can use them."""
    return sorted(str(path) for pattern in ("nvidia[0-9]*", "dxg") for path in DEVICES.glob(pattern))  # dxg: in WSL2


def import_keras() -> None:
    """Import Keras with DEFAULT_ENVIRONMENT and its own defaults, and drop what it writes to standard error.

    Raises:
        ModelError: Its settings on this machine are wrong, or it cannot be imported.
    """
    for name, value in default_environment().items():
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

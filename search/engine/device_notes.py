"""What a run trains on, in words, and the GPUs that a machine has but the backend does not see."""

from __future__ import annotations

import os

from data_prep.storage.machine import processors
from models.keras_config import TENSORFLOW, backend_name
from search.engine.keras_import import DEVICES, VISIBLE_GPUS, nvidia_devices
from search.engine.per_gpu import ON_GPU
from search.errors import SearchError

CPU = "CPU"
"""Name of the device in a training process without a GPU, as models.networks.compiled_steps has it."""
INSTALLED_BY = {TENSORFLOW: "pip install 'hpsearch[gpu]'", "jax": "pip install 'jax[cuda12]'"}
"""Backend -> how it gets NVIDIA's libraries."""
AMD_DEVICE = "kfd"


def require_gpus(asked: str) -> None:
    """Raise SearchError if the machine has no GPU for `--gpus`."""
    if not nvidia_devices() and not (DEVICES / AMD_DEVICE).exists():
        raise SearchError(
            f"--gpus {asked} needs GPUs, and this machine has none (no {DEVICES}/nvidia*): leave the option out "
            f"to train on the CPU"
        )


def device_lines(device: str) -> list[str]:
    """Return what a run trains on, and a warning if that is the CPU although the machine has a GPU.

    Args:
        device: Name of the device that the training process uses.

    Raises:
        SearchError: The run was started for a GPU by `--gpus`, and the backend sees none.
    """
    if device != CPU:
        return [f"training on {device}"]
    backend = backend_name()
    way_out = INSTALLED_BY.get(backend, f"install {backend} with support for it")
    if (gpu := os.environ.get(ON_GPU)) is not None:
        raise SearchError(f"--gpus {gpu}: {backend} sees no GPU: {way_out}, or leave --gpus out to train on the CPU")
    cores = processors()
    lines = [f"training on the CPU, {cores} core{'s' if cores > 1 else ''}"]
    hidden = os.environ.get(VISIBLE_GPUS) in ("", "-1")  # by the user
    if (there := nvidia_devices()) and not hidden:
        lines.append(f"warning: this machine has a GPU ({there[0]}), but {backend} does not see it: {way_out}")
    return lines

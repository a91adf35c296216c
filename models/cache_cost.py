"""Whether it pays to keep what frozen layers give: for each cut, computing it in each step is timed against reading it.

On a CPU it pays wherever reading is from memory. It may not where a GPU computes the first layers' large outputs sooner
than they are gathered and brought to it, or where they are more than memory holds and the disk is slow.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.networks import Network
from models.prefix_cache import Features, size_bytes

STEPS = 12
FILE_BYTES = 2**27
"""Of the features that are read: many times what a disk reads ahead for as many images."""


@dataclass(frozen=True)
class CutCost:
    """Milliseconds for one view."""

    frozen_fraction: float
    compute_ms: float
    """Through the frozen layers, in training."""
    read_ms: float
    """Its kept output, gathered and brought to the device."""

    @property
    def pays(self) -> bool:
        return self.read_ms < self.compute_ms


def least_paying(rows: Sequence[CutCost]) -> float | None:
    """The least frozen fraction from which on keeping pays; None where it pays at no cut. The deeper a cut, the more
    there is to compute, and mostly the less to read."""
    paying = list(takewhile(lambda row: row.pays, sorted(rows, key=lambda row: -row.frozen_fraction)))
    return paying[-1].frozen_fraction if paying else None


def feature_values(network: Network, frozen_fractions: Sequence[float]) -> list[int]:
    """How many values an image's features have at each cut that these fractions lead to, if anything lies before it."""
    cuts = dict.fromkeys(network.cut(fraction) for fraction in frozen_fractions)
    shapes = [cut.tensor.shape[1:] if cut.fraction < 1 else cut.tensor.shape[-1:] for cut in cuts if cut.fraction > 0]
    return [int(np.prod(shape)) for shape in shapes]  # those behind the last layer are pooled


@dataclass(frozen=True)
class Reading:
    """How features would be kept."""

    folder: Path
    precision: str
    from_disk: bool
    """They are more than memory will hold."""


def cut_costs(network: Network, frozen_fractions: Sequence[float], batch_size: int, how: Reading) -> list[CutCost]:
    """Of each cut that these fractions lead to, in the network's arithmetic. Leaves nothing in the folder."""
    found: dict[Any, CutCost] = {}
    for fraction in sorted(frozen_fractions):
        cut = network.cut(fraction)
        if cut.fraction > 0 and cut not in found:
            prefix = network.part(fraction, on_features=True).prefix
            assert prefix is not None
            compute_ms = _compute_ms(network, prefix, batch_size)
            found[cut] = CutCost(fraction, compute_ms, _read_ms(prefix, batch_size, how))
    return list(found.values())


def _compute_ms(network: Network, prefix: keras.Model, batch_size: int) -> float:
    run = network.forward(prefix)
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *prefix.input_shape[1:])).astype("uint8")

    def step(number: int) -> Any:
        return run(images)

    step(0)  # traces
    return float(np.median(_times_ms(step))) / batch_size


def _read_ms(prefix: keras.Model, batch_size: int, how: Reading) -> float:
    count = max(STEPS * batch_size, FILE_BYTES // size_bytes(prefix, how.precision, 1))
    rng = np.random.default_rng(0)
    places = rng.permutation(count)[: STEPS * batch_size].reshape(STEPS, batch_size)
    none = np.empty((count, 0))  # nothing is computed here
    how.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=how.folder) as scratch:
        path = Path(scratch) / "timed"
        values = rng.random((batch_size, *prefix.output_shape[1:]), "float32")
        written = Features(path, none, prefix, how.precision)
        for start in range(0, count, batch_size):
            some = np.arange(start, min(count, start + batch_size))
            written.keep(some, values[: len(some)])
        del written
        if how.from_disk:
            _forget(path)
        features = Features(path, none, prefix, how.precision)

        def step(number: int) -> Any:
            features.read_ahead(places[number])
            return keras.ops.convert_to_tensor(features.at(places[number]))

        times_ms = _times_ms(step)
    # A disk has bursts; what is in memory is only disturbed by others.
    return float(np.mean(times_ms) if how.from_disk else np.median(times_ms)) / batch_size


def _times_ms(step: Callable[[int], Any]) -> list[float]:
    times_ms = []
    for number in range(STEPS):
        start = time.perf_counter()
        keras.ops.convert_to_numpy(keras.ops.ravel(step(number))[:1])  # waits for the device
        times_ms.append(1000 * (time.perf_counter() - start))
    return times_ms


def _forget(path: Path) -> None:
    """Has the system drop what it holds of a file in memory, where it offers that."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

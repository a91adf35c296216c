"""Whether it pays to keep what frozen layers give: for each cut, computing it in each step is timed against reading it.

On a CPU it pays wherever reading is from memory. It may not where a GPU computes the first layers' large outputs sooner
than they are gathered and brought to it, or where they are more than memory holds and the disk is slow.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.feeding.batches import TrainingViews, ViewSource
from models.feeding.prefix_cache import Features, FeatureViews, size_bytes
from models.feeding.reading_ahead import forget
from models.networks.kept_networks import Network

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
    """The least frozen fraction from which on keeping pays; 0 where it pays everywhere, None where nowhere. The deeper
    a cut, the more there is to compute, and mostly the less to read."""
    paying = list(takewhile(lambda row: row.pays, sorted(rows, key=lambda row: -row.frozen_fraction)))
    if len(paying) == len(rows):
        return 0.0
    return paying[-1].frozen_fraction if paying else None


def feature_values(network: Network, frozen_fractions: Sequence[float]) -> list[int]:
    """How many values an image's features have at each cut that these fractions lead to, if anything lies before it."""
    cuts = dict.fromkeys(network.cut(fraction) for fraction in frozen_fractions)
    shapes = [cut.tensor.shape[1:] if cut.fraction < 1 else cut.tensor.shape[-1:] for cut in cuts if cut.fraction > 0]
    return [int(np.prod(shape)) for shape in shapes]  # those behind the last layer are pooled


@dataclass(frozen=True)
class Keeping:
    """How features would be kept."""

    precision: str
    most_bytes: int
    """Of all of them."""
    stored_images: int
    """All whose features may be kept."""
    from_disk: bool
    """They are more than memory will hold."""

    def fits(self, values: int) -> bool:
        """Whether a cut that gives an image so many values is ever kept."""
        return self.stored_images * values * np.dtype(self.precision).itemsize <= self.most_bytes


def cut_costs(
    network: Network, frozen_fractions: Sequence[float], batch_size: int, how: Keeping, scratch: Path
) -> list[CutCost]:
    """Of each cut that these fractions lead to and that would be kept, in the network's arithmetic. One that cannot be
    timed, for want of memory or of room in the folder `scratch`, is left out, with a line that says why."""
    found: dict[Any, CutCost] = {}
    for fraction in sorted(frozen_fractions):
        cut = network.cut(fraction)
        if cut in found or not all(map(how.fits, feature_values(network, [fraction]))) or cut.fraction == 0:
            continue
        prefix = network.part(fraction, on_features=True).prefix
        assert prefix is not None
        try:
            compute_ms = _compute_ms(network, prefix, batch_size)
            found[cut] = CutCost(fraction, compute_ms, _read_ms(prefix, batch_size, how, scratch))
        except Exception as error:  # backends have errors of many kinds for what does not fit
            print(f"{fraction:.0%} frozen is left out: {type(error).__name__}: {error}")
    return list(found.values())


def _compute_ms(network: Network, prefix: keras.Model, batch_size: int) -> float:
    images = np.random.default_rng(0).integers(0, 256, (STEPS * batch_size, *prefix.input_shape[1:])).astype("uint8")
    run = network.forward(prefix)
    times_ms = _times_ms(TrainingViews(images, [], np.zeros(len(images), int)), batch_size, run)
    return float(np.median(times_ms)) / batch_size


def _read_ms(prefix: keras.Model, batch_size: int, how: Keeping, scratch: Path) -> float:
    each = size_bytes(prefix, how.precision, 1)
    count = min(how.stored_images, max((1 + STEPS) * batch_size, FILE_BYTES // each))
    none = np.empty((count, 0))  # nothing is computed here
    views = TrainingViews(none, [], np.zeros(count, int))
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "features"
        values = np.random.default_rng(0).random((batch_size, *prefix.output_shape[1:]), "float32")
        written = Features(path, none, prefix, how.precision)
        for start in range(0, count, batch_size):
            some = np.arange(start, min(count, start + batch_size))
            written.keep(some, values[: len(some)])
        del written
        if how.from_disk:
            forget(path)
        source = FeatureViews(views, [Features(path, none, prefix, how.precision)])
        times_ms = _times_ms(source, batch_size, keras.ops.convert_to_tensor, count)
    # A disk has bursts; what is in memory is only disturbed by others.
    return float(np.mean(times_ms) if how.from_disk else np.median(times_ms)) / batch_size


def _times_ms(source: ViewSource, batch_size: int, then: Callable[[Any], Any], count: int | None = None) -> list[float]:
    """Of steps that gather a batch of views as trials do, from among `count` images, and do something with it."""
    count = count or STEPS * batch_size
    places = np.resize(np.random.default_rng(0).permutation(count), (1 + STEPS, batch_size))
    original = np.zeros(batch_size, int)
    times_ms = []
    for rows in places:
        start = time.perf_counter()
        source.ready(rows, original, original)
        result = then(source.gather(rows, original, original))
        keras.ops.convert_to_numpy(keras.ops.ravel(result)[:1])  # waits for the device
        times_ms.append(1000 * (time.perf_counter() - start))
    return times_ms[1:]  # the first one compiles

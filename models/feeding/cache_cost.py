"""Measure whether caching the output of the frozen layers pays: time computing it against reading it, for each cut.

On a CPU, caching pays whenever the output is read from memory. It may not pay where a GPU computes the large outputs of
the first layers faster than they are gathered and copied to it, or where they exceed memory and the disk is slow.
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
"""Timed steps for each measurement."""
FILE_BYTES = 2**27
"""Size of the file that is read, if there are enough images: many times what a disk reads ahead for the timed steps."""


@dataclass(frozen=True)
class CutCost:
    """Time for one view at one cut point, with and without the cache."""

    frozen_fraction: float
    """Share of frozen layers, 0..1, that leads to this cut."""
    compute_ms: float
    """Milliseconds to run the frozen layers in training."""
    read_ms: float
    """Milliseconds to read the cached output and bring it to the device."""

    @property
    def pays(self) -> bool:
        """Whether reading the output is faster than computing it."""
        return self.read_ms < self.compute_ms


def least_paying(rows: Sequence[CutCost]) -> float | None:
    """Return the smallest frozen fraction from which caching pays, at this cut and at all deeper ones.

    The deeper a cut, the more there is to compute and, in most networks, the less there is to read.

    Returns:
        A frozen fraction; 0 when caching pays at every cut; None when it does not pay at the deepest one.
    """
    paying = list(takewhile(lambda row: row.pays, sorted(rows, key=lambda row: -row.frozen_fraction)))
    if len(paying) == len(rows):
        return 0.0
    return paying[-1].frozen_fraction if paying else None


def feature_values(network: Network, frozen_fractions: Sequence[float]) -> list[int]:
    """Return the number of feature values per image at each cut.

    Args:
        network: Network to cut.
        frozen_fractions: Shares of frozen layers, 0..1. Fractions that lead to the same cut count once. A cut with no
            layers before it is left out.
    """
    cuts = dict.fromkeys(network.cut(fraction) for fraction in frozen_fractions)
    shapes = [cut.tensor.shape[1:] if cut.fraction < 1 else cut.tensor.shape[-1:] for cut in cuts if cut.fraction > 0]
    return [int(np.prod(shape)) for shape in shapes]  # the output of the last layer is pooled


@dataclass(frozen=True)
class Keeping:
    """How features would be cached."""

    precision: str
    """float32 or float16."""
    most_bytes: int
    """Size limit of the whole cache."""
    stored_images: int
    """Number of images and views whose features may be cached."""
    from_disk: bool
    """Whether features are read from disk, because they exceed memory."""

    def fits(self, values: int) -> bool:
        """Return whether the cache can hold all features of a cut with this many values per image."""
        return self.stored_images * values * np.dtype(self.precision).itemsize <= self.most_bytes


def cut_costs(
    network: Network, frozen_fractions: Sequence[float], batch_size: int, how: Keeping, scratch: Path
) -> list[CutCost]:
    """Return the cost of each cut that would be cached, measured in the network's arithmetic.

    A cut that cannot be timed, because memory or disk space is short, is left out, and a printed line says why.

    Args:
        network: Network to cut.
        frozen_fractions: Shares of frozen layers, 0..1; the nearest cut of each is measured once.
        batch_size: Images per step.
        how: How features would be cached.
        scratch: Folder for temporary files.
    """
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
        except Exception as error:  # each backend has its own errors for a lack of memory
            print(f"{fraction:.0%} frozen layers cannot be timed and are skipped: {type(error).__name__}: {error}")
    return list(found.values())


def _compute_ms(network: Network, prefix: keras.Model, batch_size: int) -> float:
    images = np.random.default_rng(0).integers(0, 256, (STEPS * batch_size, *prefix.input_shape[1:])).astype("uint8")
    run = network.forward(prefix)
    times_ms = _times_ms(TrainingViews(images, [], np.zeros(len(images), int)), batch_size, run)
    return float(np.median(times_ms)) / batch_size


def _read_ms(prefix: keras.Model, batch_size: int, how: Keeping, scratch: Path) -> float:
    each = size_bytes(prefix, how.precision, 1)
    count = min(how.stored_images, max((1 + STEPS) * batch_size, FILE_BYTES // each))
    none = np.empty((count, 0))  # no images are needed, since random features are stored
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
    # A disk's slow moments count, so take the mean. In memory, other processes cause slow steps: the median skips them.
    return float(np.mean(times_ms) if how.from_disk else np.median(times_ms)) / batch_size


def _times_ms(source: ViewSource, batch_size: int, then: Callable[[Any], Any], count: int | None = None) -> list[float]:
    """Time steps that gather a random batch out of `count` images, as trials do, and call `then` on it."""
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

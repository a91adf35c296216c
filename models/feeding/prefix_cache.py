"""Cache of features on disk, memory-mapped. Features are the output of the prefix, the frozen layers before a cut.

Each image's features are computed once, since frozen weights never change. All trials and processes of a machine share
the files. A view's features are written before the mark that says they are complete, so a killed process leaves no
half-written features marked as complete. Features from before the machine's last start are not reused: a power cut may
keep the mark and lose the features.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.backbones.cut_points import nodes_of
from models.backbones.own_code import code_sha256
from models.errors import ModelError
from models.feeding.batches import TrainingViews
from models.feeding.reading_ahead import read_ahead
from models.feeding.training_data import TrainingData
from models.files import PARTIAL, replacing
from models.networks.kept_networks import Network, TrainedPart, weights_sha256
from models.networks.predicting import predict

ALIGNMENT = 64  # the features in a file begin at a multiple of this many bytes
MAKING_S = 600
"""Age in seconds from which an unfinished file is taken to be the remains of a killed process."""
PREFIX_BATCH = 32
"""Images per call of a prefix. Smaller batches are padded, so it is traced once; small enough to be quick for one."""


@dataclass(frozen=True)
class CacheSettings:
    """Where and how features are cached."""

    folder: Path
    precision: str
    """float32 or float16."""
    most_bytes: int
    """Size limit of the whole folder."""
    origin: str
    """Identifies the prepared images and the machine's last start: features of any other origin are not reused."""
    least_fraction: float = 0.0
    """Share of frozen layers, 0..1, below which nothing is cached, because computing is faster than reading."""


class Features:
    """Cached features of an array of images, computed when they are first needed.

    Args:
        path: File of the features; created if it does not exist.
        images: uint8 (n, h, w, 3).
        prefix: The frozen layers: images -> features (n, ...).
        precision: float32 or float16.
    """

    def __init__(self, path: Path, images: np.ndarray, prefix: keras.Model, precision: str) -> None:
        self.images, self.prefix = images, prefix
        count, shape = len(images), prefix.output_shape[1:]
        start = -(-count // ALIGNMENT) * ALIGNMENT
        if not path.exists():
            _reserve(path, size_bytes(prefix, precision, count))
        os.utime(path)  # the least recently used file is removed first
        self._known = np.memmap(path, np.uint8, "r+", shape=(count,))
        read_ahead(self._known.reshape(1, count), np.zeros(1, int))  # loads all marks, without the features beside them
        self._values = np.memmap(path, precision, "r+", offset=start, shape=(count, *shape))

    def missing(self, places: np.ndarray) -> np.ndarray:
        """Return the indices among `places` whose features are not cached yet, each once."""
        return np.unique(places[self._known[places] == 0])

    def keep(self, places: np.ndarray, found: np.ndarray) -> None:
        """Store the features of some images.

        Args:
            places: int (k,), indices of the images.
            found: float32 (k, ...), output of the prefix.

        Raises:
            ModelError: A value does not fit the precision.
        """
        with np.errstate(over="ignore"):
            rounded = found.astype(self._values.dtype)
        if not np.isfinite(rounded).all():
            raise ModelError(
                f"an output of the frozen layers does not fit {rounded.dtype}: use --prefix-cache float32 or off"
            )
        self._values[places] = rounded
        self._known[places] = 1

    def read_ahead(self, places: np.ndarray) -> None:
        """Start reading the features at these indices from disk, because they are needed soon."""
        read_ahead(self._values, places)

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the features at these indices, float32 (len(places), ...). They must be cached."""
        return np.asarray(self._values[places], np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return the features of a slice of the images, float32. Missing ones are computed."""
        places = np.arange(len(self))[part]
        compute([(self, self.missing(places))])
        return self.at(places)


def compute(wanted: Sequence[tuple[Features, np.ndarray]]) -> int:
    """Compute and store features of several arrays of images together, so that batches are full.

    Args:
        wanted: Pairs of features and the indices to compute, int (k,). All features have the same prefix.

    Returns:
        Number of images computed.
    """
    for features, places in wanted:
        read_ahead(features.images, places)
    images = np.concatenate([features.images[places] for features, places in wanted])
    if len(images) == 0:
        return 0
    found = predict(wanted[0][0].prefix, images, PREFIX_BATCH)
    for features, places in wanted:
        features.keep(places, found[: len(places)])
        found = found[len(places) :]
    return len(images)


class FeatureViews:
    """View source with features in place of the images of `TrainingViews`.

    Args:
        views: The views that a trial draws from.
        levels: Features of the originals, then of each bank of `views`.
    """

    def __init__(self, views: TrainingViews, levels: Sequence[Features]) -> None:
        self._copies = np.array([1, *(bank.shape[1] for bank in views.banks)])
        self._levels = levels
        self.computed = 0
        """Number of views whose features were not cached before."""

    def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None:
        """Compute the features of these views that are missing, and start reading the others from disk."""
        places = rows * self._copies[strength] + copy
        by_level = [(features, places[strength == level]) for level, features in enumerate(self._levels)]
        for features, wanted in by_level:
            features.read_ahead(wanted)
        self.computed += compute([(features, features.missing(wanted)) for features, wanted in by_level])

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """Return the features of these views, float32 (len(rows), ...). Call `ready` for them first."""
        places = rows * self._copies[strength] + copy
        parts = [features.at(places[strength == level]) for level, features in enumerate(self._levels)]
        order = np.argsort(strength, kind="stable")  # the order of the rows in `parts`
        result = np.empty((len(rows), *parts[0].shape[1:]), np.float32)
        result[order] = np.concatenate(parts)
        return result


@dataclass(frozen=True)
class CachedPart:
    """A part of the network that is trained on features, and the features of all images that a trial uses."""

    part: TrainedPart
    views: FeatureViews
    validation: Features
    corrupted: Features | None


def cached_part(
    settings: CacheSettings, network: Network, frozen_fraction: float, data: TrainingData
) -> CachedPart | None:
    """Return the part of the network behind a cut, with the cached features of a trial's images.

    Args:
        settings: Where and how features are cached.
        network: Network to cut.
        frozen_fraction: Share of frozen layers, 0..1; the nearest cut is taken.
        data: The trial's images.

    Returns:
        The part and its features. None when no layers lie before the cut, or too few for caching to pay. Also None when
        the files cannot be created, for example because disk space is short; a printed line then says why.
    """
    cut = network.cut(frozen_fraction)
    if cut.fraction == 0 or cut.fraction < network.cut(settings.least_fraction).fraction:
        return None
    part = network.part(frozen_fraction, on_features=True)
    assert part.prefix is not None
    images = _images_of(data)
    folder = settings.folder / _key(settings, network, part)
    paths = {name: folder / f"{name}.{settings.precision}" for name in images}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        needed = sum(
            size_bytes(part.prefix, settings.precision, len(found))
            for name, found in images.items()
            if not paths[name].exists()
        )
        _make_room(settings, needed, paths.values())
        opened = {name: Features(paths[name], found, part.prefix, settings.precision) for name, found in images.items()}
    except OSError as error:
        print(f"the output of the frozen layers is not cached: {error.strerror or error}")
        return None
    levels = [opened[name] for name in ("original", *data.views.names)]
    return CachedPart(part, FeatureViews(data.views, levels), opened["validation"], opened.get("validation-corrupted"))


def size_bytes(prefix: keras.Model, precision: str, count: int) -> int:
    """Return the size of a file with the features of `count` images and their marks."""
    each = int(np.prod(prefix.output_shape[1:])) * np.dtype(precision).itemsize
    return -(-count // ALIGNMENT) * ALIGNMENT + count * each


def _images_of(data: TrainingData) -> dict[str, np.ndarray]:
    views = data.views
    images = {"original": views.originals}
    images |= {name: _flat(bank) for name, bank in zip(views.names, views.banks, strict=True)}
    images["validation"] = data.validation_images
    if data.corrupted_images is not None:
        images["validation-corrupted"] = _flat(data.corrupted_images)
    return images


def _flat(views: np.ndarray) -> np.ndarray:
    """Reshape (n, copies, h, w, 3) to (n * copies, h, w, 3), still memory-mapped."""
    result: np.ndarray = views.reshape(-1, *views.shape[2:])
    return result


def _key(settings: CacheSettings, network: Network, part: TrainedPart) -> str:
    backbone, shape = network.classifier.settings.backbone, network.classifier.settings.network_shape
    parts = [
        backbone.name,
        backbone.preprocessing,
        f"{shape[0]}x{shape[1]}",
        part.cut.layer,
        weights_sha256(part.prefix),
        *([_graph_sha256(network.classifier.network)] if backbone.own else []),
        *([code_sha256(backbone.own["function"])] if "function" in backbone.own else []),
    ]
    text = " ".join([settings.origin, *parts, keras.__version__, settings.precision])
    return f"{backbone.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _graph_sha256(network: keras.Model) -> str:
    """Hash the operations of a user's own network, since its name may stay the same when the network changes.

    Layer names are left out: Keras numbers them in each process.
    """
    nodes = nodes_of(network)
    places = {id(output): place for place, node in enumerate(nodes) for output in node.outputs}
    calls = [
        (
            type(node.operation).__name__,
            _config(node.operation),
            [places.get(id(one), -1) for one in node.input_tensors],
        )
        for node in nodes
    ]
    text = json.dumps(calls, sort_keys=True, default=lambda value: type(value).__name__)
    return hashlib.sha256(text.encode()).hexdigest()


def _config(operation: Any) -> dict[str, Any]:
    """Return a layer's settings except its name; empty for a user's layer that does not implement `get_config`."""
    with suppress(NotImplementedError):
        return {key: value for key, value in operation.get_config().items() if key != "name"}
    return {}


def _make_room(settings: CacheSettings, needed: int, spared: Collection[Path]) -> None:
    """Remove the least recently used files until `needed` more bytes fit the limit, but none of `spared`.

    A process that still reads a removed file keeps it until it is done. Raises OSError if the bytes cannot fit.
    """
    files = _files(settings.folder)
    total = sum(found.st_size for found in files.values())
    kept = sum(files[path].st_size for path in spared if path in files)
    if kept + needed > settings.most_bytes:
        raise OSError(
            errno.ENOSPC,
            f"it needs {(kept + needed) / 1e6:.0f} MB, more than the {settings.most_bytes / 1e6:.0f} MB allowed",
        )
    made = {path for path, found in files.items() if not _is_being_made(path, found)}
    for path in sorted(made - set(spared), key=lambda path: files[path].st_mtime):
        if total + needed <= settings.most_bytes:
            return
        path.unlink(missing_ok=True)
        total -= files[path].st_size


def _files(folder: Path) -> dict[Path, os.stat_result]:
    found = {}
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # another process may have removed the file
            found[path] = path.stat()
    return found


def _is_being_made(path: Path, found: os.stat_result) -> bool:
    """Return whether another process is writing this file. A killed process may leave an old unfinished file."""
    return path.name.startswith(PARTIAL) and time.time() - found.st_mtime < MAKING_S


def _reserve(path: Path, size: int) -> None:
    """Create a file of zeros and allocate its disk space: writing to a memory map on a full disk ends the process."""
    with replacing(path, shared=True, sync=False) as partial, open(partial, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(0, size, 2**24):
                file.write(bytes(min(2**24, size - start)))

"""What a frozen prefix makes of each image, computed once and kept on disk, memory-mapped: its weights never change.

Files are shared by all trials and processes of a machine. A view's features are written before its mark, so that a
killed process leaves none that is half there; what an earlier start of the machine left is not trusted (a power cut may
keep the mark and lose the features).
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
from models.errors import ModelError
from models.feeding.batches import TrainingViews
from models.feeding.reading_ahead import read_ahead
from models.feeding.training_data import TrainingData
from models.files import PARTIAL, replacing
from models.networks.kept_networks import Network, TrainedPart, weights_sha256
from models.networks.predicting import predict

ALIGNMENT = 64  # bytes
MAKING_S = 600
PREFIX_BATCH = 32
"""Images that go through a prefix at once: no fewer, since it is traced once, and few enough to be quick for one."""


@dataclass(frozen=True)
class CacheSettings:
    """Where features may be kept, and of what."""

    folder: Path
    precision: str
    """float32 or float16"""
    most_bytes: int
    """Of the whole folder."""
    origin: str
    """Names the images, and this start of the machine."""
    least_fraction: float = 0.0
    """Of the layers frozen; where fewer are, computing their output is quicker than reading it."""


class Features:
    """The prefix's output for each of a row of images, computed when it is first asked for.

    Args:
        images: uint8 (n, h, w, 3).
        prefix: images -> features (n, ...).
    """

    def __init__(self, path: Path, images: np.ndarray, prefix: keras.Model, precision: str) -> None:
        self.images, self.prefix = images, prefix
        count, shape = len(images), prefix.output_shape[1:]
        start = -(-count // ALIGNMENT) * ALIGNMENT
        if not path.exists():
            _reserve(path, size_bytes(prefix, precision, count))
        os.utime(path)  # what was used last is removed last
        self._known = np.memmap(path, np.uint8, "r+", shape=(count,))
        read_ahead(self._known.reshape(1, count), np.zeros(1, int))  # all marks, and no features along with them
        self._values = np.memmap(path, precision, "r+", offset=start, shape=(count, *shape))

    def missing(self, places: np.ndarray) -> np.ndarray:
        """Which of these are not there yet, each once."""
        return np.unique(places[self._known[places] == 0])

    def keep(self, places: np.ndarray, found: np.ndarray) -> None:
        """Keeps the prefix's output of these. ModelError when the precision cannot hold a value."""
        with np.errstate(over="ignore"):
            rounded = found.astype(self._values.dtype)
        if not np.isfinite(rounded).all():
            raise ModelError(
                f"an output of the frozen layers does not fit {rounded.dtype}: use --prefix-cache float32 or off"
            )
        self._values[places] = rounded
        self._known[places] = 1

    def read_ahead(self, places: np.ndarray) -> None:
        """Those at these places are soon wanted."""
        read_ahead(self._values, places)

    def at(self, places: np.ndarray) -> np.ndarray:
        """float32 (len(places), ...); they must be there."""
        return np.asarray(self._values[places], np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Those of some images in a row, float32; what is missing is computed."""
        places = np.arange(len(self))[part]
        compute([(self, self.missing(places))])
        return self.at(places)


def compute(wanted: Sequence[tuple[Features, np.ndarray]]) -> int:
    """Computes the features at these places, of all at once, so that batches are full; how many there were."""
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
    """As `TrainingViews`, with features in place of images."""

    def __init__(self, views: TrainingViews, levels: Sequence[Features]) -> None:
        self._copies = np.array([1, *(bank.shape[1] for bank in views.banks)])
        self._levels = levels
        self.computed = 0
        """Views whose features had not been kept."""

    def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None:
        """Computes what is missing of these views; what is not begins to be read."""
        places = rows * self._copies[strength] + copy
        by_level = [(features, places[strength == level]) for level, features in enumerate(self._levels)]
        for features, wanted in by_level:
            features.read_ahead(wanted)
        self.computed += compute([(features, features.missing(wanted)) for features, wanted in by_level])

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """The features of these views, float32 (len(rows), ...); they must be `ready`."""
        places = rows * self._copies[strength] + copy
        parts = [features.at(places[strength == level]) for level, features in enumerate(self._levels)]
        order = np.argsort(strength, kind="stable")  # as the parts come
        result = np.empty((len(rows), *parts[0].shape[1:]), np.float32)
        result[order] = np.concatenate(parts)
        return result


@dataclass(frozen=True)
class CachedPart:
    """A part trained on features, with those of everything that a trial looks at."""

    part: TrainedPart
    views: FeatureViews
    validation: Features
    corrupted: Features | None


def cached_part(
    settings: CacheSettings, network: Network, frozen_fraction: float, data: TrainingData
) -> CachedPart | None:
    """The part behind a cut with the features of these images. None, with a line that says why, when they would take
    more room than there is; None as well when nothing lies before the cut, or too little to pay."""
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
        print(f"the frozen layers' output is not kept: {error}")
        return None
    levels = [opened[name] for name in ("original", *data.views.names)]
    return CachedPart(part, FeatureViews(data.views, levels), opened["validation"], opened.get("validation-corrupted"))


def size_bytes(prefix: keras.Model, precision: str, count: int) -> int:
    """Of the file of so many images' features."""
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
    """(n, copies, h, w, 3) as (n * copies, h, w, 3), still memory-mapped."""
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
    ]
    text = " ".join([settings.origin, *parts, keras.__version__, settings.precision])
    return f"{backbone.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _graph_sha256(network: keras.Model) -> str:
    """Of what a network of the user's own computes besides its weights: its name may stay when it is changed. What its
    layers are called, which a process counts, does not matter."""
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
    """Empty of a layer of the user's that does not tell."""
    with suppress(NotImplementedError):
        return {key: value for key, value in operation.get_config().items() if key != "name"}
    return {}


def _make_room(settings: CacheSettings, needed: int, spared: Collection[Path]) -> None:
    """Removes what was used longest ago until `needed` bytes more are within the limit. OSError when they cannot be.

    A process that still reads a file that is removed keeps it until it is done.
    """
    files = _files(settings.folder)
    total = sum(found.st_size for found in files.values())
    kept = sum(files[path].st_size for path in spared if path in files)
    if kept + needed > settings.most_bytes:
        raise OSError(
            errno.ENOSPC, f"{(kept + needed) / 1e6:.0f} MB are more than the {settings.most_bytes / 1e6:.0f} MB allowed"
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
        with suppress(FileNotFoundError):  # another process removes some too
            found[path] = path.stat()
    return found


def _is_being_made(path: Path, found: os.stat_result) -> bool:
    """By another process; an old one was left by a process that was killed."""
    return path.name.startswith(PARTIAL) and time.time() - found.st_mtime < MAKING_S


def _reserve(path: Path, size: int) -> None:
    """A file of zeros whose room on the disk is taken: writing to a memory map of a full disk would end the process."""
    with replacing(path, shared=True, sync=False) as partial, open(partial, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(0, size, 2**24):
                file.write(bytes(min(2**24, size - start)))

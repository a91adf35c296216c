"""Measure how fast batches come from a set on disk, with and without reading rows ahead.

    python benchmarks/reading_ahead.py run FOLDER OUT.json
    python benchmarks/reading_ahead.py show OUT.json

FOLDER must be on the disk to measure, with 3 GB free during the run. The set is 100,000 memory-mapped images of 96
pixels. Before each round the system's page cache of the file is dropped, so that the first 64 batches in random order
come from the disk. Each of 5 rounds measures both ways in turn:

    read ahead    trials' way: the rows of the next steps are requested in advance
    touched       rows are read when a batch is put together

Figures are images/s of making batches; nothing is trained. The second way depends on how much the system reads along
with each row (Linux: `/sys/block/*/queue/read_ahead_kb`), which `show` prints.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from models.feeding.batches import Feed, TrainingViews
from models.feeding.epoch_size import EpochSize
from models.feeding.reading_ahead import forget
from models.hyperparameters import Hyperparameters

IMAGES, SHAPE, CLASSES, BATCH = 100_000, (96, 96, 3), 8, 32
STEPS, ROUNDS = 64, 5


class Touched(TrainingViews):
    """Training views that are read only when a batch is put together."""

    def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None:
        pass


def run(folder: Path, out: Path, images: int, rounds: int) -> None:
    labels = np.arange(images) % CLASSES
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "images.npy"
        written = np.lib.format.open_memmap(path, "w+", np.uint8, (images, *SHAPE))
        for start in range(0, images, 1000):
            block = written[start : start + 1000]
            block[:] = np.random.default_rng(start).integers(0, 256, block.shape, np.uint8)
        del block, written
        found: dict[str, list[float]] = {"read ahead": [], "touched": []}
        for number in range(rounds):
            for name, make in (("read ahead", TrainingViews), ("touched", Touched)):
                forget(path)
                found[name].append(_images_per_second(make(np.load(path, mmap_mode="r"), [], labels), number))
    report: dict[str, Any] = {"images_per_second": found, "date": datetime.now(UTC).date().isoformat()}
    report["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    kilobytes = [int(file.read_text()) for file in Path("/sys/block").glob("[hnsv][dv]*/queue/read_ahead_kb")]
    out.write_text(json.dumps(report | {"read_ahead_kb": kilobytes}, indent=1) + "\n")
    show(out)


def _images_per_second(views: TrainingViews, number: int) -> float:
    feed = Feed(views, np.ones(CLASSES, "float32"), EpochSize.of(len(views), 1, BATCH), seed=0)
    start = time.perf_counter()
    images = sum(len(batch.images) for batch in islice(feed.epoch(number, 0.0, Hyperparameters()), STEPS))
    return images / (time.perf_counter() - start)


def show(out: Path) -> None:
    report = json.loads(out.read_text())
    print(f"{report['machine']}, {report['date']}, the system reads {report['read_ahead_kb']} KB at once")
    for name, speeds in report["images_per_second"].items():
        print(f"{name:<11} {statistics.median(speeds):>8.0f} images/s  ({min(speeds):.0f} to {max(speeds):.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure")
    running.add_argument("folder", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--images", type=int, default=IMAGES, help="images in the set (default: %(default)s)")
    running.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    commands.add_parser("show", help="print the figures").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        run(options.folder, options.out, options.images, options.rounds)
    else:
        show(options.out)


if __name__ == "__main__":
    main()

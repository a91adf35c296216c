"""The speed of `hpsearch prepare`, and the memory it takes.

    python benchmarks/preparation.py augmentation SOURCE.npz      # against the published per-image eager loop
    python benchmarks/preparation.py cleaning SOURCE.npz          # hashing, reading, cleaning, grouping, stage by stage
    python benchmarks/preparation.py large SOURCE.npz FOLDER      # the same for 100,000 images, made of SOURCE's
    python benchmarks/preparation.py whole FOLDER                 # all of `prepare` for those, one level only
    python benchmarks/preparation.py show

SOURCE.npz is a set as `prepare` takes it. Each part writes its own entry of --out and leaves the others. FOLDER keeps
the 100,000 images (2.8 GB) for the next time.

The parts about cleaning run in processes of their own. Their memory is read from /proc every 10 ms (Linux): private is
what only swap could take away (RssAnon); a source of 512 MiB or more lies in a temporary file instead, whose pages
count as mapped (RssFile) while they are in memory, and the system takes them back when others need the room.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
OUT = Path(__file__).parent / "results" / "preparation.json"
LEVELS = ("low", "medium", "hard")
POSITIONS = 8
IMAGES, EAGER_SHARE, ROUNDS = 1500, 30, 3
LARGE, COPY_SHARE = 100_000, 50
_MEMORY = {"private_mb": "RssAnon", "mapped_mb": "RssFile", "resident_mb": "VmRSS"}


def augmentation(source: Path, count: int, times: int) -> dict[str, Any]:
    """Rounds of both in turn, in one process, on the same images."""
    from data_prep.sources.registry import read_source

    images = read_source(str(source)).images[:count]
    few = images[: max(1, len(images) // EAGER_SHARE)]
    loops = {level: eager_loop(level) for level in LEVELS}
    for loop in loops.values():
        loop(images[:2])
    rounds = []
    for number in range(times):
        ours, eager = our_views(images, number), Clock()
        for loop in loops.values():
            loop(few)
        one = ours | {f"eager_{key}": value for key, value in eager.rates(len(few) * len(LEVELS)).items()}
        one["ratio"] = round(one["views_per_s"] / one["eager_views_per_s"], 1)
        one["ratio_by_cpu_time"] = round(one["views_per_cpu_s"] / one["eager_views_per_cpu_s"], 1)
        one["ratio_with_start"] = round(one["with_start_views_per_s"] / one["eager_views_per_s"], 1)
        print(one, flush=True)
        rounds.append(one)
    ratios = {key: float(np.median([one[key] for one in rounds])) for key in rounds[0] if key.startswith("ratio")}
    return {"images": len(images), "eager_images": len(few), "levels": LEVELS, "rounds": rounds} | ratios


def our_views(images: np.ndarray, seed: int) -> dict[str, float]:
    """Rates of `augment` from the first batches on, and with the start: the graphs are built for each set anew."""
    from data_prep.augmentation.levels import augment

    views = {level: np.zeros((len(images), 1, *images.shape[1:]), np.uint8) for level in LEVELS}
    watch = Watch()
    augment(images, views, (seed, 0), watch)
    (first, started), (last, _) = watch.seen[len(LEVELS) - 1], watch.seen[-1]
    rates = started.rates(last - first)
    return rates | {f"with_start_{key}": value for key, value in watch.began.rates(last).items()}


def eager_loop(level: str) -> Callable[[np.ndarray], None]:
    """The published way: each image on its own, without a graph, through the layers that `augment` uses."""
    import keras_cv
    import tensorflow as tf

    from data_prep.settings import STRENGTHS

    strength = STRENGTHS[level]
    augmix = keras_cv.layers.AugMix(value_range=(0, 255), severity=strength, num_chains=1)
    randaugment = keras_cv.layers.RandAugment(value_range=(0, 255), augmentations_per_image=1, magnitude=strength)

    def loop(images: np.ndarray) -> None:
        views = np.empty_like(images)
        for at, image in enumerate(images):
            changed = randaugment(augmix(tf.cast(image, tf.float32)))
            views[at] = tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8).numpy()

    return loop


class Clock:
    """Wall and CPU seconds of all threads; they count on until asked for the first time."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        self.stopped: dict[str, float] = {}

    def seconds(self) -> dict[str, float]:
        now = {"s": time.perf_counter() - self.wall, "cpu_s": time.process_time() - self.cpu}
        self.stopped = self.stopped or {key: round(value, 3) for key, value in now.items()}
        return self.stopped

    def rates(self, views: int) -> dict[str, float]:
        return {f"views_per_{key}": round(views / value, 1) for key, value in self.seconds().items()}


class Watch:
    """A progress that remembers when how much was done, and what stages there were."""

    def __init__(self) -> None:
        self.began = Clock()
        self.done, self.seen = 0, list[tuple[int, Clock]]()
        self.stages = dict[str, Clock]()

    def start(self, title: str, total: int, unit: str = "images") -> None:
        self.end()
        self.stages[title] = Clock()

    def end(self) -> dict[str, dict[str, float]]:
        return {title: clock.seconds() for title, clock in self.stages.items()}

    def advance(self, count: int) -> None:
        self.done += count
        self.seen.append((self.done, Clock()))


def stages(source: str) -> dict[str, Any]:
    """Seconds of each stage up to images.csv, and memory; to be run in a process of its own."""
    from data_prep import prepare
    from data_prep.cleaning import copies, hashing
    from data_prep.fingerprint import identify
    from data_prep.progress import Silent
    from data_prep.settings import PrepareSettings
    from data_prep.sources.registry import read_source
    from data_prep.splitting import user_groups
    from data_prep.storage.images_csv import write_table

    seconds: dict[str, dict[str, float]] = {}
    settings = PrepareSettings(source)
    watched: tuple[tuple[ModuleType, str], ...] = (
        (hashing, "phashes"),
        *((copies, name) for name in ("copy_groups", "linked")),
        *((prepare, name) for name in ("clean", "split_groups")),
        (user_groups, "group_by_pairs"),
    )
    for module, name in watched:
        setattr(module, name, timed(name, getattr(module, name), seconds))
    with memory() as peaks:
        begun = Clock()
        timed("digest of the source", identify, seconds)(settings)
        data = timed("read", read_source, seconds)(source)
        decisions = prepare.decide(data, settings, Silent())
        rows = timed("rows of images.csv", prepare.table, seconds)(data, decisions)
        timed("images.csv", write_table, seconds)(Path(os.devnull), rows)
        total = begun.seconds()
    found = prepare.counts(data, decisions)
    counts = {key: found[key] for key in ("images_read", "rejected", "kept", "groups")}
    return {"total": total, "stages": seconds, "memory": peaks, "counts": counts}


def timed(name: str, function: Callable[..., Any], seconds: dict[str, dict[str, float]]) -> Callable[..., Any]:
    """The function, its seconds noted down; of a generator until its end."""

    def run(*args: Any, **kwargs: Any) -> Any:
        clock = Clock()
        result = function(*args, **kwargs)
        result = list(result) if isinstance(result, Iterator) else result
        seconds[name] = clock.seconds()
        return result

    return run


@contextmanager
def memory() -> Iterator[dict[str, int]]:
    """Peaks in MB within the block, which come when it ends."""
    peaks, over = dict.fromkeys(_MEMORY, 0), threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            status = Path("/proc/self/status").read_text()
            for key, field in _MEMORY.items():
                kb = int(re.findall(rf"{field}:\s+(\d+) kB", status)[0])
                peaks[key] = max(peaks[key], round(kb / 1000))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def make_large(source: Path, path: Path, count: int) -> None:
    """Images of SOURCE in up to eight positions (turned by right angles, mirrored), then copies and near copies."""
    from data_prep.sources.registry import read_source

    data = read_source(str(source))
    rng = np.random.default_rng(0)
    copies = count // COPY_SHARE
    plain = count - 2 * copies
    if len(data.images) * POSITIONS < plain:
        raise SystemExit(
            f"{source} must have {-(-plain // POSITIONS):,} images or more, but it has {len(data.images):,}"
        )
    taken = np.concatenate([np.arange(plain), rng.choice(plain, 2 * copies)])
    image, position = taken % len(data.images), taken // len(data.images)
    unfinished = path.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w") as archive:
        with archive.open("labels.npy", "w") as member:
            np.lib.format.write_array(member, data.labels[image])
        with archive.open("images.npy", "w", force_zip64=True) as member:
            shape = (count, *data.images.shape[1:])
            np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for at in range(count):
                picture = np.rot90(data.images[image[at]], position[at] % 4)
                picture = picture[:, ::-1] if position[at] >= 4 else picture
                if at >= count - copies:
                    picture = np.clip(picture + rng.integers(-4, 9, picture.shape), 0, 255).astype(np.uint8)
                member.write(picture.tobytes())
    unfinished.rename(path)


def whole(folder: str) -> dict[str, Any]:
    """All of `prepare`, in a process of its own."""
    from data_prep.prepare import prepare
    from data_prep.settings import PrepareSettings

    settings = PrepareSettings(str(Path(folder) / "large.npz"), levels=LEVELS[:1], corrupted_views=0)
    place, watch = Path(folder) / "prepared", Watch()
    with memory() as peaks:
        prepare(settings, place, force=True, progress=watch)
        total = watch.began.seconds()
        ends = watch.end()
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    shutil.rmtree(place)
    return {"total": total, "stages": ends, "memory": peaks, "written_mb": round(size / 1e6)}


def apart(function: Callable[[str], dict[str, Any]], argument: Path) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (str(argument),))


def show(report: dict[str, Any]) -> None:
    for part, found in report.items():
        print(f"{part} ({found['date']}, {found['machine']}, load {found['load_average']} at its end)")
        for one in found.get("rounds", ()):
            rates = "{views_per_s:,.0f} views/s, eager {eager_views_per_s:.1f}: {ratio:.1f} times".format(**one)
            also = "{ratio_by_cpu_time:.1f} by CPU time, {ratio_with_start:.1f} with the start".format(**one)
            print(f"  {rates} ({also})")
        for name, seconds in (found.get("stages", {}) | {"total": found.get("total")}).items():
            if seconds:
                print(f"  {name:<28}{seconds['s']:>9.2f} s{seconds['cpu_s']:>9.2f} s CPU")
        print("  " + ", ".join(f"{key} {found[key]}" for key in found if key in ("memory", "counts") or "ratio" in key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("augmentation", "cleaning", "large", "whole", "show"))
    parser.add_argument("paths", nargs="*", type=Path, help="SOURCE.npz, FOLDER or both")
    counts = f"images of `augmentation` (default: {IMAGES:,}) or `large` (default: {LARGE:,})"
    parser.add_argument("--images", type=int, help=counts)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of `augmentation` (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.part == "large" and not (large := options.paths[1] / "large.npz").exists():
        options.paths[1].mkdir(parents=True, exist_ok=True)
        make_large(options.paths[0], large, options.images or LARGE)
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "augmentation": lambda: augmentation(options.paths[0], options.images or IMAGES, options.rounds),
        "cleaning": lambda: apart(stages, options.paths[0]),
        "large": lambda: apart(stages, options.paths[1] / "large.npz"),
        "whole": lambda: apart(whole, options.paths[0]),
    }
    if options.part != "show":
        found = measure[options.part]()
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        found |= {"date": datetime.now(UTC).date().isoformat(), "machine": machine}
        report[options.part] = found | {"load_average": round(os.getloadavg()[0], 1)}
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


if __name__ == "__main__":
    main()

"""Measure the speed of `hpsearch prepare` and the memory that it needs.

    python benchmarks/preparation.py augmentation SOURCE.npz
    python benchmarks/preparation.py cleaning SOURCE.npz
    python benchmarks/preparation.py large SOURCE.npz FOLDER
    python benchmarks/preparation.py whole FOLDER
    python benchmarks/preparation.py show

    augmentation    augmented views per second, against the published loop over single images in eager mode
    cleaning        seconds of each stage: reading, hashing, cleaning, grouping
    large           the same for 100,000 images, made from those of SOURCE and kept in FOLDER (2.8 GB)
    whole           all of `prepare` on the images that `large` left in FOLDER, with one augmentation level

SOURCE.npz is any set that `prepare` accepts. Each command replaces its own entry in --out.

All but `augmentation` run in a process of their own, whose memory is read from /proc every 10 ms (Linux). `private_mb`
(RssAnon) is memory that the system could free only by swapping. A source of 512 MiB or more lies in a temporary file
instead; its pages in memory count as `mapped_mb` (RssFile), and the system reclaims them when it needs the room.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from preparation_parts.measuring import Clock, Watch, memory, timed

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
OUT = Path(__file__).parent / "results" / "preparation.json"
LEVELS = ("low", "medium", "hard")
POSITIONS = 8
IMAGES, EAGER_SHARE, ROUNDS = 1500, 30, 3
LARGE, COPY_SHARE, LARGE_FILE = 100_000, 50, "large.npz"


def augmentation(source: Path, count: int, times: int) -> dict[str, Any]:
    """Time `augment` and the eager loop in turn, in one process, on the same images.

    Args:
        source: Source of the images.
        count: Images that `augment` gets. The eager loop, which is far slower, gets one of EAGER_SHARE.
        times: Rounds.
    """
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
    """Return the speed of `augment` without and with its start.

    The start is the time until the first batch of each level is done: TensorFlow traces the graphs anew for each set.
    """
    from data_prep.augmentation.levels import augment

    views = {level: np.zeros((len(images), 1, *images.shape[1:]), np.uint8) for level in LEVELS}
    watch = Watch()
    augment(images, views, (seed, 0), watch)
    (first, started), (last, _) = watch.seen[len(LEVELS) - 1], watch.seen[-1]
    rates = started.rates(last - first)
    return rates | {f"with_start_{key}": value for key, value in watch.began.rates(last).items()}


def eager_loop(level: str) -> Callable[[np.ndarray], None]:
    """Return the published loop: the layers that `augment` uses, on one image at a time, in eager mode."""
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


def stages(source: str) -> dict[str, Any]:
    """Return seconds of each stage up to writing images.csv, and peaks of memory. Call it in a new process."""
    from data_prep import prepare
    from data_prep.cleaning import copies, hashing, near_copies
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
        (copies, "copy_groups"),
        (near_copies, "within"),
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


def make_large(source: Path, path: Path, count: int) -> None:
    """Write a large set made of the images of a smaller one.

    It has the images in up to POSITIONS positions (rotated by right angles, mirrored), then one part in COPY_SHARE of
    exact copies, and as many near copies.
    """
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
    """Return seconds and memory of all of `prepare`. Call it in a new process."""
    from data_prep.prepare import prepare
    from data_prep.settings import PrepareSettings

    settings = PrepareSettings(str(Path(folder) / LARGE_FILE), levels=LEVELS[:1], corrupted_views=0)
    place, watch = Path(folder) / "prepared", Watch()
    with memory() as peaks:
        prepare(settings, place, force=True, progress=watch)
        total = watch.began.seconds()
        ends = watch.end()
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    shutil.rmtree(place)
    return {"total": total, "stages": ends, "memory": peaks, "written_mb": round(size / 1e6)}


def apart(function: Callable[[str], dict[str, Any]], argument: Path) -> dict[str, Any]:
    """Call a function in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (str(argument),))


def show(report: dict[str, Any]) -> None:
    for part, found in report.items():
        print(f"{part} ({found['date']}, {found['machine']}, load average {found['load_average']} at the end)")
        for one in found.get("rounds", ()):
            rates = "{views_per_s:,.0f} views/s, eager {eager_views_per_s:.1f}: {ratio:.1f} times as fast".format(**one)
            also = "{ratio_by_cpu_time:.1f} by CPU time, {ratio_with_start:.1f} with the tracing".format(**one)
            print(f"  {rates} ({also})")
        for name, seconds in (found.get("stages", {}) | {"total": found.get("total")}).items():
            if seconds:
                print(f"  {name:<28}{seconds['s']:>9.2f} s{seconds['cpu_s']:>9.2f} s CPU")
        print("  " + ", ".join(f"{key} {found[key]}" for key in found if key in ("memory", "counts") or "ratio" in key))


PARTS = {
    "augmentation": (("source",), IMAGES, "time augmentation against the eager loop"),
    "cleaning": (("source",), 0, "time the stages of cleaning"),
    "large": (("source", "folder"), LARGE, "time the stages of cleaning a large set, made of SOURCE's images"),
    "whole": (("folder",), 0, "time all of `prepare` on the set that `large` made"),
    "show": ((), 0, "print all figures"),
}
"""Command -> its paths, default of its --images (0: it has none), its help."""


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one command."""
    if options.part == "augmentation":
        return augmentation(options.source, options.images, options.rounds)
    if options.part == "cleaning":
        return apart(stages, options.source)
    if options.part == "whole":
        return apart(whole, options.folder)
    large = options.folder / LARGE_FILE
    if not large.exists():
        options.folder.mkdir(parents=True, exist_ok=True)
        make_large(options.source, large, options.images)
    return apart(stages, large)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    for part, (paths, images, what) in PARTS.items():
        command = commands.add_parser(part, help=what)
        for path in paths:
            command.add_argument(path, type=Path)
        command.add_argument("--out", type=Path, default=OUT, help="default: benchmarks/results/preparation.json")
        if images:
            command.add_argument("--images", type=int, default=images, help="images to use (default: %(default)s)")
    commands.choices["augmentation"].add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    options = parser.parse_args()
    report = json.loads(options.out.read_text()) if options.part == "show" or options.out.exists() else {}
    if options.part != "show":
        found = measured(options)
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        found |= {"date": datetime.now(UTC).date().isoformat(), "machine": machine}
        report[options.part] = found | {"load_average": round(os.getloadavg()[0], 1)}
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


if __name__ == "__main__":
    main()

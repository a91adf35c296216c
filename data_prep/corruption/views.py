"""Corrupted views of the validation and test images: drawn once, from (seed, split, used_by), and stored."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corruption.operations import CORRUPTIONS, Corruption, used
from data_prep.progress import Progress, Silent
from data_prep.settings import PrepareSettings
from data_prep.storage import writer
from data_prep.storage.reader import CORRUPTED_SETS, CorruptedViews, corrupted_file


@dataclass(frozen=True)
class View:
    """A row of a .csv file: the corruptions of one view.

    Attributes:
        row: index of the image in its split.
        view: number of the view of this image: 0, 1, ...
        first: name of the first corruption.
        first_strength: one of the strengths of the first corruption.
        second: name of the corruption applied to the result of the first; empty if there is none.
        second_strength: one of the strengths of the second corruption; empty if there is none.
    """

    row: int
    view: int
    first: str
    first_strength: float
    second: str = ""
    second_strength: float | str = ""


def write_corrupted(folder: Path, settings: PrepareSettings, progress: Progress) -> dict[str, Any]:
    """Write corrupted/{split}_{used_by}.npy, uint8 (n, views, h, w, 3), and .csv for each of CORRUPTED_SETS.

    Args:
        folder: folder of the prepared set; its `validation_images.npy` and `test_images.npy` are read.
        settings: `corrupted_views` and `seed` are used.
        progress: receiver of progress reports, in views.

    Returns:
        Entry for the manifest: views per image, files, and the table of the corruptions used.
    """
    views = settings.corrupted_views
    files = []
    for split, used_by in CORRUPTED_SETS if views else ():
        images = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        path = folder / corrupted_file(split, used_by)
        seed = int.from_bytes(hashlib.sha256(f"{settings.seed} {split} {used_by}".encode()).digest()[:8], "big")
        plan = planned(len(images), views, used(used_by), seed)
        progress.start(f"corrupting {split} images, {used_by} corruptions", len(plan))
        array = writer.new_array(path, (len(images), views, *images.shape[1:]))
        _fill(array, images, plan, seed, progress)
        array.flush()  # type: ignore[attr-defined]
        _write_plan(path.with_suffix(".csv"), plan)
        files += [corrupted_file(split, used_by), corrupted_file(split, used_by, ".csv")]
    described = ("family", "kind", "used_by")
    operations = {
        row.name: {key: getattr(row, key) for key in described} | {"strengths": list(row.strengths)}
        for row in (CORRUPTIONS if views else ())
    }
    return {"views": views, "files": files, "operations": operations}


def corrupted_views(images: np.ndarray, views: int, used_by: str, seed: int) -> CorruptedViews:
    """Return corrupted views of any images, in memory.

    Args:
        images: uint8 (n, h, w, 3).
        views: views per image, 1 or more.
        used_by: "validation" or "test"; its corruptions are applied.
        seed: random seed of the plan and of the corruptions.
    """
    rows = used(used_by)
    plan = planned(len(images), views, rows, seed)
    array = np.empty((len(images), views, *images.shape[1:]), np.uint8)
    _fill(array, images, plan, seed, Silent())
    family_of = {row.name: row.family for row in rows}
    families = {family: np.zeros(array.shape[:2], bool) for family in family_of.values()}
    for one in plan:
        for name in filter(None, (one.first, one.second)):
            families[family_of[name]][one.row, one.view] = True
    return CorruptedViews(array, families)


def planned(count: int, views: int, rows: Sequence[Corruption], seed: int) -> list[View]:
    """Plan the corruptions of all views: views 0, 2, ... of an image get one, the others two different ones in turn.

    Corruptions, and the strengths of each, are used equally often, as far as the number of images allows.

    Args:
        count: number of images.
        views: views per image.
        rows: corruptions to choose from, two or more.
        seed: random seed of the assignment.

    Returns:
        One entry per view, sorted by image and view.
    """
    plan = []
    for view in range(views):
        order = np.random.default_rng((seed, view)).permutation(count)
        plan += [_planned(int(image), view, int(place), rows) for image, place in enumerate(order)]
    return sorted(plan, key=lambda one: (one.row, one.view))


def _planned(image: int, view: int, place: int, rows: Sequence[Corruption]) -> View:
    """Return the `place`-th entry of a balanced list.

    Each block of len(rows) entries has each corruption once as the first and once as the second. Three blocks have each
    of its strengths once. Pairs of corruptions, and pairs of strengths, go through all combinations in turn.
    """
    block, at = divmod(place, len(rows))
    first = rows[at]
    if view % 2 == 0:
        return View(image, view, first.name, first.strengths[(at + block) % 3])
    partner = (at + 1 + block % (len(rows) - 1)) % len(rows)
    second = rows[partner]
    strength = second.strengths[(partner + 2 * block + block // 3) % 3]
    return View(image, view, first.name, first.strengths[(at + block) % 3], second.name, strength)


def _fill(array: np.ndarray, images: np.ndarray, plan: Sequence[View], seed: int, progress: Progress) -> None:
    by_name = {row.name: row for row in CORRUPTIONS}
    for one in plan:
        rng = np.random.default_rng((seed, one.row, one.view))
        picture = by_name[one.first].apply(np.asarray(images[one.row]), one.first_strength, rng)
        if one.second:
            picture = by_name[one.second].apply(picture, float(one.second_strength), rng)
        array[one.row, one.view] = picture
        progress.advance(1)


def _write_plan(path: Path, plan: Sequence[View]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv_writer = csv.writer(file)
        csv_writer.writerow(field.name for field in fields(View))
        csv_writer.writerows(astuple(one) for one in plan)

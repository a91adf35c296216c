"""Write report.html: one self-contained page about a preparation. The template escapes all names."""

import base64
import io
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from data_prep.cleaning.steps import Rejection
from data_prep.cleaning.versions import Doubt
from data_prep.corruption.operations import TEST, VALIDATION, Corruption, used
from data_prep.external_sets import CleanedExternalSet
from data_prep.settings import SPLITS, level_names
from data_prep.sources.labelled_images import LabelledImages
from data_prep.storage.images_csv import KEPT, ImageRow
from data_prep.storage.reader import bank_folder

_SHOWN = 24  # most cards per reason, and most groups
_PARENTS = 8  # most training images shown with their views
_CORRUPTED = 2  # most training images shown with each corruption
_BARS = 60  # most classes in the chart
_LISTED = 200  # most unreadable pictures listed by name
_LARGEST = 192  # longest side of an embedded picture, in pixels
_INK, _GRID = "#33404d", "#d5dbe1"
_COLOURS = ("#3b6ea5", "#8bb3d9", "#e0a458", "#c9ced4")


@dataclass(frozen=True)
class Exhibit:
    """A card of the report: pictures side by side, as data URIs, with lines of text."""

    pictures: tuple[str, ...]
    lines: tuple[str, ...]


def write_report(
    folder: Path,
    data: LabelledImages,
    rejections: Sequence[Rejection],
    table: Sequence[ImageRow],
    manifest: Mapping[str, Any],
    external: Sequence[CleanedExternalSet] = (),
    doubts: Sequence[Doubt] = (),
) -> None:
    """Write report.html into the folder of a set whose arrays are already written.

    Args:
        folder: folder of the set.
        data: images of the main source.
        rejections: images that cleaning rejected.
        table: rows of images.csv.
        manifest: manifest of the set.
        external: external sets as written.
        doubts: near copies with different labels.
    """
    template = resources.files("data_prep.report").joinpath("report.html").read_text(encoding="utf-8")
    levels = level_names(manifest["settings"]["levels"])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(template).render(
        manifest=manifest,
        splits=SPLITS,
        names=data.class_names,
        chart=_chart(data, manifest),
        sheets=_sheets(data, rejections),
        external=[(one, manifest["external"][one.name], _external_sheets(one, data)) for one in external],
        unreadable=data.unreadable[:_LISTED],
        unreadable_more=max(0, len(data.unreadable) - _LISTED),
        groups=_groups(data, table),
        doubts=[_doubts(data, [doubt for doubt in doubts if doubt.one_spot == spot]) for spot in (False, True)],
        levels=levels,
        parents=_parents(folder, levels, data.class_names),
        corrupted=_corrupted(folder, manifest["settings"]["seed"]) if manifest["corrupted"]["views"] else {},
    )
    (folder / "report.html").write_text(page, encoding="utf-8", errors="replace")


def _sheets(data: LabelledImages, rejections: Sequence[Rejection]) -> dict[str, tuple[list[Exhibit], int]]:
    """Return, by reason, the first cards and the number of further ones. Copies of a recurring picture share a card."""
    sheets: dict[str, list[Exhibit]] = defaultdict(list)
    recurring: dict[int, list[Rejection]] = defaultdict(list)
    shown: dict[str, int] = defaultdict(int)
    totals: dict[str, int] = defaultdict(int)
    for rejection in rejections:
        if rejection.reason == "recurring picture" and rejection.like is not None:
            recurring[rejection.like].append(rejection)
            continue
        totals[rejection.reason] += 1
        if shown[rejection.reason] < _SHOWN:
            shown[rejection.reason] += 1
            sheets[rejection.reason].append(_rejected(data, rejection))
    cards = [_recurring(data, group) for group in recurring.values()]
    found = {"recurring picture": (cards[:_SHOWN], max(0, len(cards) - _SHOWN))} if cards else {}
    return found | {reason: (cards, totals[reason] - len(cards)) for reason, cards in sheets.items()}


def _external_sheets(external: CleanedExternalSet, main: LabelledImages) -> dict[str, tuple[list[Exhibit], int]]:
    """Return cards as `_sheets` does; an image that the main set has too is shown beside its match there."""
    sheets: dict[str, list[Exhibit]] = defaultdict(list)
    data = external.data
    for index, twin in external.twins.items():
        lines = (
            f"{data.names[index]} · class {data.class_names[data.labels[index]]}",
            f"in the main set: {main.names[twin.of]} · class {main.class_names[main.labels[twin.of]]}",
            f"pHash distance {twin.distance}",
        )
        sheets[twin.reason].append(Exhibit((_embedded(data.images[index]), _embedded(main.images[twin.of])), lines))
    found = {reason: (cards[:_SHOWN], max(0, len(cards) - _SHOWN)) for reason, cards in sheets.items()}
    return _sheets(data, external.rejections) | found


def _rejected(data: LabelledImages, rejection: Rejection) -> Exhibit:
    """Show a rejected image beside the image it was compared with."""
    described = [
        f"{data.names[rejection.index]} · class {data.class_names[data.labels[rejection.index]]}",
        rejection.detail,
    ]
    pictures = [data.images[rejection.index]]
    if rejection.like is not None:
        pictures.append(data.images[rejection.like])
        kept = "kept" if rejection.twin is not None else "also left out"
        label = data.class_names[data.labels[rejection.like]]
        described.append(f"compared with: {data.names[rejection.like]} · class {label} ({kept})")
    if rejection.distance is not None:
        described.append(f"pHash distance {rejection.distance}")
    return Exhibit(tuple(_embedded(picture) for picture in pictures), tuple(described))


def _recurring(data: LabelledImages, group: Sequence[Rejection]) -> Exhibit:
    """Show a recurring picture once, with the number of its copies by class."""
    counts = np.bincount([data.labels[rejection.index] for rejection in group], minlength=len(data.class_names))
    classes = ", ".join(f"{counts[label]:,} {data.class_names[label]}" for label in np.flatnonzero(counts))
    first = group[0].index
    lines = (f"{len(group):,} copies, none kept", classes, f"first: {data.names[first]}")
    return Exhibit((_embedded(data.images[first]),), lines)


def _groups(data: LabelledImages, table: Sequence[ImageRow]) -> tuple[list[Exhibit], int]:
    """Show groups of two or more kept images, largest first; return the cards and the number of further groups."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(table):
        if row.decision == KEPT:
            members[row.group].append(index)
    large = sorted((group for group in members.values() if len(group) > 1), key=len, reverse=True)
    cards = [
        Exhibit(
            tuple(_embedded(data.images[index]) for index in group[:4]),
            (
                f"{len(group)} images, all in {table[group[0]].split}",
                ", ".join(f"{table[index].name} · class {table[index].class_name}" for index in group[:4]),
            ),
        )
        for group in large[:_SHOWN]
    ]
    return cards, len(large) - len(cards)


def _doubts(data: LabelledImages, doubts: Sequence[Doubt]) -> tuple[list[Exhibit], int]:
    """Show both pictures of near copies with different labels; return the cards and the number of further ones."""
    cards = []
    for doubt in doubts[:_SHOWN]:
        both = (doubt.first, doubt.second)
        lines = tuple(f"{data.names[index]} · class {data.class_names[data.labels[index]]}" for index in both)
        cards.append(Exhibit(tuple(_embedded(data.images[index]) for index in both), lines))
    return cards, len(doubts) - len(cards)


def _parents(folder: Path, levels: Sequence[str], class_names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return one training image from each of the first classes, with its first view of each level."""
    images = np.load(folder / "train_images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "train_labels.npy", allow_pickle=False)
    banks = [np.load(folder / bank_folder(0) / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in levels]
    rows = [int(np.flatnonzero(labels == label)[0]) for label in range(min(_PARENTS, len(class_names)))]
    return [
        (class_names[labels[row]], [_embedded(images[row]), *(_embedded(bank[row, 0]) for bank in banks)])
        for row in rows
    ]


def _corrupted(folder: Path, seed: int) -> dict[str, tuple[list[str], list[tuple[str, str, list[str]]]]]:
    """Return, for validation and for test: originals, and each corruption's family, name and pictures at each strength.

    The originals are training images of different classes, because nobody should look at held-out images.
    """
    images = np.load(folder / "train_images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "train_labels.npy", allow_pickle=False)
    parents = [_shrunk(images[int(np.flatnonzero(labels == label)[0])]) for label in np.unique(labels)[:_CORRUPTED]]
    return {
        used_by: (
            [_embedded(parent) for parent in parents],
            [
                (row.family, row.name, [_embedded(view) for view in _at_each_strength(row, parents, seed)])
                for row in used(used_by)
            ],
        )
        for used_by in (VALIDATION, TEST)
    }


def _at_each_strength(row: Corruption, parents: Sequence[np.ndarray], seed: int) -> Iterator[np.ndarray]:
    for place, parent in enumerate(parents):
        for strength in row.strengths:
            yield row.apply(parent, strength, np.random.default_rng((seed, place)))


def _shrunk(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.asarray(image))
    picture.thumbnail((_LARGEST, _LARGEST))
    return np.array(picture)


def _embedded(image: np.ndarray) -> str:
    """Return an image, uint8 (h, w, 3), as a JPEG data URI, shrunk if it is large."""
    file = io.BytesIO()
    Image.fromarray(_shrunk(image)).save(file, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _chart(data: LabelledImages, manifest: Mapping[str, Any]) -> str:
    """Draw the images of each class as a bar of train, validation, test and not used: a PNG as a data URI."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name if len(name) <= 30 else name[:29] + "…" for name in data.class_names]
    used = np.array([manifest["counts"]["per_split"][split] for split in SPLITS])
    rest = np.bincount(data.labels, minlength=len(names)) - used.sum(axis=0)
    if len(names) > _BARS:  # the largest and the smallest classes; the table below has all
        order = np.argsort(-used.sum(axis=0), kind="stable")
        shown = np.r_[order[: _BARS // 2], order[-_BARS // 2 :]]
        between = f"… {len(names) - _BARS:,} classes between …"
        names = [
            *(names[place] for place in shown[: _BARS // 2]),
            between,
            *(names[place] for place in shown[_BARS // 2 :]),
        ]
        used, rest = (np.insert(counts[..., shown], _BARS // 2, 0, axis=-1) for counts in (used, rest))
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    start = np.zeros(len(names))
    for label, widths, colour in zip((*SPLITS, "not used"), (*used, rest), _COLOURS, strict=True):
        axes.barh(np.arange(len(names)), widths, left=start, color=colour, label=label, height=0.72)
        start += widths
    for place, total in enumerate(used.sum(axis=0)):
        axes.annotate(
            "" if names[place].startswith("…") else f"{total:,}",
            (start[place], place),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
        )
    axes.set_yticks(np.arange(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel("images (the numbers count those in use)", color=_INK)
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, labelcolor=_INK)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # class names may use any script
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

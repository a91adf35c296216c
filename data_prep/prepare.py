"""Make a prepared set on disk from labelled images: read, clean, group, split, augment, corrupt, write, report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from data_prep.augmentation.bank import write_generation
from data_prep.cleaning import copies, hashing
from data_prep.cleaning.steps import Candidates, Rejection, clean, large_reasons, reaching_later_sides, suspicious
from data_prep.cleaning.user_anomalies import read_anomalies
from data_prep.cleaning.versions import Doubt, find_versions, further_versions
from data_prep.corruption.views import write_corrupted
from data_prep.errors import DataError
from data_prep.external_sets import CleanedExternalSet, MainSet, read_external, write_external
from data_prep.fingerprint import differences, fingerprint, identify
from data_prep.progress import Progress, Silent
from data_prep.report.page import write_report
from data_prep.settings import DEFAULT_SPLIT, SPLITS, PrepareSettings
from data_prep.sources.labelled_images import LabelledImages
from data_prep.sources.registry import fetch_source, read_source, require_classes, source_options
from data_prep.splitting import user_groups
from data_prep.splitting.split import completed, split_groups, stratified_part
from data_prep.storage import writer
from data_prep.storage.images_csv import KEPT, LEFT_OUT, REJECTED, ImageRow, write_table
from data_prep.storage.reader import FORMAT_VERSION, MANIFEST, PreparedSet, recover


@dataclass(frozen=True)
class Outcome:
    """Result of `prepare`.

    Attributes:
        created: whether a set was written; False if the same set was there already.
        manifest: manifest of the set. Its "counts" hold images_read, rejected (by reason), left_out, kept, groups and
            per_split (number of images of each class, by split).
        warnings: findings that the user should check, one line each.
    """

    created: bool
    manifest: Mapping[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Decisions:
    """What was decided about each of the n images of a source.

    Attributes:
        hashes: perceptual hashes, uint64 (n,).
        rejections: images that cleaning rejected.
        groups: int64 (n,), group number of each kept image, -1 for the others.
        sides: int8 (n,), split of each kept image as an index into SPLITS, -1 for the others.
        warnings: findings that the user should check, one line each.
        doubts: near copies with different labels.
    """

    hashes: np.ndarray
    rejections: tuple[Rejection, ...]
    groups: np.ndarray
    sides: np.ndarray
    warnings: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()

    def rows(self, split: str) -> np.ndarray:
        """Return the indices of a split's images, in rising order."""
        return np.flatnonzero(self.sides == SPLITS.index(split))


def prepare(
    settings: PrepareSettings, folder: Path, *, force: bool = False, progress: Progress | None = None
) -> Outcome:
    """Make a prepared set in `folder`, unless the same set is there already.

    The set is replaced atomically: an interruption at any moment leaves the previous set, or none.

    Args:
        settings: what to prepare, and how.
        folder: folder of the set; missing parents are created.
        force: replace any set that is in `folder`.
        progress: receiver of progress reports.

    Raises:
        DataError: the source cannot be used or changes while it is read, or `folder` holds another set and `force` is
            False.
    """
    progress = progress or Silent()
    fetch_source(settings.source, progress)
    identity = identify(settings)
    recover(folder)
    if folder.exists() and not force:
        manifest = PreparedSet.open(folder).manifest
        if manifest["fingerprint"] != fingerprint(identity):
            what = "; ".join(differences(manifest, identity))
            raise DataError(
                f"{folder} holds a prepared set made differently ({what}): give --force to replace it, "
                "or choose another --workspace"
            )
        return Outcome(False, manifest, tuple(manifest["warnings"]))
    data = read_source(
        settings.source,
        settings.image_size,
        seed=settings.seed,
        progress=progress,
        class_names=settings.class_names,
        **source_options(settings),
    )
    require_classes(data, settings.source)
    decisions = decide(data, settings, progress)
    external = read_external(settings, _main(data, decisions), progress)
    if identify(settings) != identity:
        raise DataError(f"{settings.source} changed while it was read: prepare it again when it is complete")
    with writer.building(folder) as new:
        manifest = _write(new, data, decisions, external, (settings, identity), progress)
    return Outcome(True, manifest, tuple(manifest["warnings"]))


def _main(data: LabelledImages, decisions: Decisions) -> MainSet:
    return MainSet(data, decisions.hashes, decisions.sides, decisions.rejections)


def decide(data: LabelledImages, settings: PrepareSettings, progress: Progress) -> Decisions:
    """Decide what becomes of each image: clean, group, apply `limit`, split.

    A source's own split is kept unless `settings.split` is given. A picture with copies in several of its splits is
    then kept in the latest one (train, validation, test), and images whose group reaches into a later split are
    rejected, so that held-out images stay as published.

    Raises:
        DataError: an anomaly picture or the table of groups cannot be used, `limit` is too small, or a class is missing
            from a split.
    """
    known = user_groups.known_groups(data, settings.groups)
    progress.start("comparing images", len(data.images))
    hashes = hashing.phashes(data.images, progress)
    own = None if settings.split else data.sides
    candidates = Candidates(
        data.images,
        data.labels,
        hashes,
        data.class_names,
        tuple(_latest_first(group, own) for group in copies.copy_groups(data.images, hashes)),
        settings.recurrence_limit,
        read_anomalies(settings.anomalies, data.images.shape[1:3]),
    )
    rejections = tuple(clean(candidates))
    kept = np.setdiff1d(np.arange(len(hashes)), [rejection.index for rejection in rejections])
    versions = find_versions(data, hashes, kept, settings, progress)
    sources = np.full(len(hashes), -1, np.int64)
    if versions.sources is not None:
        sources[kept] = versions.sources
    numbers = user_groups.united(known, kept, versions.pairs, rejections)
    if own is not None:
        leaking = reaching_later_sides(kept, numbers, own[kept], hashes)
        rejections = tuple(sorted((*rejections, *leaking), key=lambda rejection: rejection.index))
        stay = ~np.isin(kept, [rejection.index for rejection in leaking])
        kept, numbers = kept[stay], numbers[stay]
    if settings.limit is not None:
        strata, least = (data.labels, len(SPLITS)) if own is None else (len(SPLITS) * data.labels + own, 1)
        part = stratified_part(strata[kept], settings.limit, settings.seed, least)
        kept, numbers = kept[part], numbers[part]
    groups, sides = np.full(len(hashes), -1, np.int64), np.full(len(hashes), -1, np.int8)
    groups[kept] = numbers
    split = settings.split or DEFAULT_SPLIT
    if own is None:
        sides[kept] = split_groups(numbers, data.labels[kept], split, data.class_names, settings.seed)
    else:
        sides[kept] = completed(own[kept], numbers, data.labels[kept], split, data.class_names, settings.seed)
    cleaned = rejections
    if own is None and versions.sources is not None:
        further = kept[further_versions(sources[kept], sides[kept])]
        rejections = _without_further(further, rejections, sources, sides)
        groups[further], sides[further] = -1, -1
    warnings = [
        *known.warnings,
        *versions.warnings,
        *suspicious(candidates, rejections),
        *large_reasons(candidates, cleaned),
        *user_groups.large_groups(numbers, data, kept),
    ]
    return Decisions(hashes, rejections, groups, sides, tuple(warnings), versions.doubts)


def _without_further(
    further: np.ndarray, rejections: Sequence[Rejection], sources: np.ndarray, sides: np.ndarray
) -> tuple[Rejection, ...]:
    """Add rejections of held-out images of which another version is held out too."""
    held = np.setdiff1d(np.flatnonzero(sides > 0), further)
    kept_version = {int(sources[index]): int(index) for index in held}
    twins = [(int(index), kept_version[int(sources[index])]) for index in further]
    found = [
        Rejection(index, "further version", "another version of it is held out", None, twin, twin)
        for index, twin in twins
    ]
    return tuple(sorted((*rejections, *found), key=lambda rejection: rejection.index))


def _latest_first(group: Sequence[int], own: np.ndarray | None) -> tuple[int, ...]:
    """Sort a group of copies by split, latest first, if the source has its own split: the first copy is kept."""
    return tuple(group if own is None else sorted(group, key=lambda index: -int(own[index])))


def _write(
    folder: Path,
    data: LabelledImages,
    decisions: Decisions,
    external: list[CleanedExternalSet],
    made_from: tuple[PrepareSettings, Mapping[str, Any]],
    progress: Progress,
) -> dict[str, Any]:
    """Write all files of a set and return its manifest."""
    settings, identity = made_from
    for split in SPLITS:
        rows = decisions.rows(split)
        writer.write_rows(folder / f"{split}_images.npy", data.images, rows)
        np.save(folder / f"{split}_labels.npy", data.labels[rows])
    mark = fingerprint(identity)
    write_generation(folder, settings, 0, mark, progress)
    corrupted = write_corrupted(folder, settings, progress)
    external, entries = write_external(folder, settings, external, _main(data, decisions), progress)
    rows_read = table(data, decisions)
    write_table(folder / "images.csv", rows_read)
    train = data.labels[decisions.rows("train")]
    weights = compute_class_weight("balanced", classes=np.arange(len(data.class_names)), y=train)
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "fingerprint": mark,
        "source": settings.source,
        **identity,
        "class_names": list(data.class_names),
        "image_shape": list(data.images.shape[1:]),
        "class_weights": [float(weight) for weight in weights],
        "corrupted": corrupted,
        "counts": counts(data, decisions),
        "warnings": [*decisions.warnings, *(line for one in external for line in one.warnings)],
    }
    if external:
        manifest["external"] = entries
    write_report(folder, data, decisions.rejections, rows_read, manifest, external, decisions.doubts)
    names = [path.name for path in folder.iterdir() if path.is_file()]
    manifest["files"] = writer.checksums(folder, names + corrupted["files"])
    writer.write_json(folder / MANIFEST, manifest)
    return manifest


def counts(data: LabelledImages, decisions: Decisions) -> dict[str, Any]:
    """Return the manifest's counts: images read, rejected (by reason), left out by `limit` and kept, groups, and images
    per split and class.
    """
    reasons = Counter(rejection.reason for rejection in decisions.rejections)
    if data.unreadable:
        reasons["unreadable"] = len(data.unreadable)
    kept = int((decisions.sides >= 0).sum())
    classes = len(data.class_names)
    return {
        "images_read": len(data.images) + len(data.unreadable),
        "rejected": dict(reasons.most_common()),
        "left_out": len(data.images) - len(decisions.rejections) - kept,
        "kept": kept,
        "groups": len(np.unique(decisions.groups[decisions.sides >= 0])),
        "per_split": {
            split: np.bincount(data.labels[decisions.rows(split)], minlength=classes).tolist() for split in SPLITS
        },
    }


def table(data: LabelledImages, decisions: Decisions) -> list[ImageRow]:
    """Return the rows of images.csv in the source's order, with unreadable pictures last."""
    gone = {rejection.index: rejection for rejection in decisions.rejections}
    places = {int(index): place for split in SPLITS for place, index in enumerate(decisions.rows(split))}
    rows = []
    for index, name in enumerate(data.names):
        label = int(data.labels[index])
        known = {"name": name, "label": str(label), "class_name": data.class_names[label]}
        known["phash"] = f"{int(decisions.hashes[index]):016x}"
        if index in gone:
            why = gone[index]
            distance = "" if why.distance is None else str(why.distance)
            twin = "" if why.twin is None else data.names[why.twin]
            rows.append(
                ImageRow(**known, decision=REJECTED, reason=why.reason, detail=why.detail, distance=distance, twin=twin)
            )
        elif index in places:
            split, group = SPLITS[decisions.sides[index]], str(decisions.groups[index])
            rows.append(ImageRow(**known, decision=KEPT, group=group, split=split, row=str(places[index])))
        else:
            rows.append(ImageRow(**known, decision=LEFT_OUT, detail="left out by --limit"))
    for bad in data.unreadable:
        rows.append(ImageRow(name=bad.name, decision=REJECTED, reason="unreadable", detail=bad.reason))
    return rows

"""Versions of one picture in a set: by pixels and by names. What follows from them is decided in prepare.py."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.cleaning import copies, near_copies
from data_prep.cleaning.near_copies import Link, Pictures
from data_prep.cleaning.representatives import grouped
from data_prep.cleaning.version_names import NamedVersions, named_versions
from data_prep.progress import Progress
from data_prep.settings import PrepareSettings
from data_prep.sources.labelled_images import LabelledImages

AUGMENTED_SHARE = 0.2
"""Share of the images that have a near copy, from which a set counts as augmented before it came here."""
SIMILAR_SHARE = 0.05
_TRIED, _CONFIRMED = 40, 0.3  # pairs of named versions that are aligned, and the share that has to hold
_SAME_SUBJECT = 0.7  # least overlap of near copies whose labels must be equal


@dataclass(frozen=True)
class Doubt:
    """Near copies with different labels, by index: one label is probably wrong, unless one small spot is the matter."""

    first: int
    second: int
    one_spot: bool


@dataclass(frozen=True)
class FoundVersions:
    """Versions of one picture among the k images kept.

    Attributes:
        pairs: images that belong together, by place, int64 (m, 2).
        sources: int64 (k,), number of the picture that each image is a version of, if the set was augmented before;
            else None.
        doubts: near copies with different labels.
        warnings: findings that the user should check, one line each.
    """

    pairs: np.ndarray
    sources: np.ndarray | None = None
    doubts: tuple[Doubt, ...] = ()
    warnings: tuple[str, ...] = ()


def find_versions(
    data: LabelledImages, hashes: np.ndarray, kept: np.ndarray, settings: PrepareSettings, progress: Progress
) -> FoundVersions:
    """Find versions of one picture among the images kept, by their pixels and by their names.

    Args:
        data: images of the source.
        hashes: perceptual hashes, uint64 (n,).
        kept: indices (k,) of the images kept.
        settings: `near_copies` and `groups` are used: names count unless the user gives groups.
        progress: receiver of progress reports.
    """
    named = None
    if settings.groups is None and settings.near_copies != "off":
        named = named_versions([data.names[index] for index in kept], data.labels[kept].tolist())
    if settings.near_copies == "off":
        return FoundVersions(np.empty((0, 2), np.int64))
    progress.start("looking for near copies", len(kept))
    pictures = Pictures(data.images, hashes, kept, progress)
    links = near_copies.within(pictures)
    groups = grouped(pictures, links)
    doubts = _doubts(data, kept, links)
    same = groups.pairs[np.equal(*data.labels[kept][groups.pairs].T)]
    versions, originals = len(np.unique(same)), len(np.unique(same[:, 0]))
    if named is not None and not named.sure and not _confirmed(pictures, named):
        named = None
    if settings.near_copies == "report":
        line = f"{len(np.unique(groups.pairs)):,} images have near copies, which are not kept on one side"
        return FoundVersions(np.empty((0, 2), np.int64), None, doubts, (line,) if len(groups.pairs) else ())
    pairs, sources, warnings = groups.pairs, None, []
    if named is not None:
        pairs, sources = np.concatenate([pairs, _chained(named.sources)]), named.sources
        warnings.append(_augmented(named.versions, named.pictures, "by their names"))
    elif versions >= AUGMENTED_SHARE * len(kept) and versions:
        sources = np.arange(len(kept))
        sources[same[:, 1]] = same[:, 0]
        warnings.append(_augmented(versions, originals, "by their pixels"))
    similar = {place for link in groups.cut for place in (link.first, link.second)}
    if len(similar) > SIMILAR_SHARE * len(kept):
        warnings.append(
            f"{len(similar):,} images resemble others without being versions of one picture, such as frames of a "
            "video: give --groups to keep what belongs together on one side"
        )
    wrong = [doubt for doubt in doubts if not doubt.one_spot]
    if wrong:
        warnings.append(
            f"{len(wrong):,} pairs of near copies have different labels, of which one is probably wrong: see the report"
        )
    return FoundVersions(pairs, sources, doubts, tuple(warnings))


def _augmented(versions: int, pictures: int, how: str) -> str:
    return (
        f"{versions:,} images look like versions of {pictures:,} {how}: this set was augmented before; each is kept on "
        "one side, and validation and test hold one version of it"
    )


def _confirmed(pictures: Pictures, named: NamedVersions) -> bool:
    """Return whether pixels confirm what names suggest, on some of the pairs."""
    pairs = _chained(named.sources)
    drawn = pairs[np.random.default_rng(0).permutation(len(pairs))[:_TRIED]]
    holding = sum(
        near_copies.proven((pictures, first), (pictures, second)) is not None for first, second in drawn.tolist()
    )
    return holding >= _CONFIRMED * len(drawn)


def _chained(sources: np.ndarray) -> np.ndarray:
    """Return pairs that link each image to the next of its picture, int64 (m, 2)."""
    order = np.argsort(sources, kind="stable")
    same = np.diff(sources[order]) == 0
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _doubts(data: LabelledImages, kept: np.ndarray, links: Sequence[Link]) -> tuple[Doubt, ...]:
    found = []
    for link in links:
        first, second = sorted((int(kept[link.first]), int(kept[link.second])))
        if data.labels[first] != data.labels[second] and link.share >= _SAME_SUBJECT:
            spot = copies.differ_in_one_spot(data.images[first], data.images[second])
            found.append(Doubt(first, second, spot))
    return tuple(sorted(found, key=lambda doubt: (doubt.one_spot, doubt.first)))


def further_versions(sources: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return the places of held-out images (sides above 0) whose picture has an earlier version there, int64 (m,)."""
    held = np.flatnonzero(sides > 0)
    _, first = np.unique(sources[held], return_index=True)
    return np.delete(held, first)

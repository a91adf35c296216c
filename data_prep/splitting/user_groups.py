"""Groups that the user knows of: images of one patient or slide go to the same split, with their near copies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.cleaning.steps import Rejection
from data_prep.errors import DataError
from data_prep.sources.labelled_images import LabelledImages
from data_prep.sources.listing import group_numbers
from data_prep.sources.table_rows import GROUP_COLUMNS, read_lines
from data_prep.splitting.grouping import group_by_pairs
from data_prep.splitting.split import FEW_IMAGES, LARGE_SHARE

NAME_COLUMNS = ("image", "name", "path", "file", "file_name", "filename", "row")


@dataclass(frozen=True)
class KnownGroups:
    """Groups that are known before pictures are compared.

    Attributes:
        links: pairs of images (indices) that belong together, int64 (m, 2).
        warnings: findings that the user should check, one line each.
    """

    links: np.ndarray
    warnings: tuple[str, ...] = ()


def known_groups(data: LabelledImages, path: str | None) -> KnownGroups:
    """Return the groups that the source and the user's table name.

    Args:
        data: images of the source.
        path: path of a table with one row per image that names its group; None for no table.

    Raises:
        DataError: the table cannot be read, gives an image two groups, or names unknown images.
    """
    links = [] if data.groups is None else [_links(data.groups)]
    warnings = []
    if path is not None:
        by_name = _read(Path(path))
        _require_known(by_name, data, path)
        names = [by_name.get(name, "") for name in data.names]
        links.append(_links(group_numbers(names)))
        alone = names.count("")
        if alone:
            warnings.append(
                f"{alone:,} of {len(names):,} images have no row in {path}: each forms its own group, with its copies"
            )
    return KnownGroups(np.concatenate([np.empty((0, 2), np.int64), *links]), tuple(warnings))


def united(
    known: KnownGroups, kept: np.ndarray, near: Iterable[tuple[int, int]], rejections: Sequence[Rejection]
) -> np.ndarray:
    """Return the group of each kept image, joined from near copies and known groups, directly or through others.

    A rejected copy still links its own group to the group of the image kept in its place.

    Args:
        known: result of `known_groups`.
        kept: indices (k,) of the images kept, in rising order.
        near: near copies, as pairs of positions in `kept`; enough pairs to connect all near copies.
        rejections: images that cleaning rejected.

    Returns:
        int64 (k,), group numbers 0, 1, ... in the order of their first image.
    """
    pairs = np.array(list(near), np.int64).reshape(-1, 2)
    if not len(known.links):
        return group_by_pairs(len(kept), pairs)
    twins = [(gone.index, gone.twin) for gone in rejections if gone.twin is not None]
    together = np.concatenate([kept[pairs], known.links, np.array(twins, np.int64).reshape(-1, 2)])
    count = int(max(kept.max(initial=-1), together.max(initial=-1))) + 1
    whole = group_by_pairs(count, together)[kept]
    return group_numbers([str(number) for number in whole])


def large_groups(groups: np.ndarray, data: LabelledImages, kept: np.ndarray) -> list[str]:
    """Return a warning if groups hold more than LARGE_SHARE of a class, since that makes uneven splits.

    Args:
        groups: int64 (k,), group numbers of the images kept.
        data: images of the source.
        kept: indices (k,) of the images kept.

    Returns:
        One line, or none if there is no such group.
    """
    labels = data.labels[kept]
    counts = np.zeros((groups.max(initial=-1) + 1, len(data.class_names)), np.int64)
    np.add.at(counts, (groups, labels), 1)
    sizes = counts.sum(axis=0)
    large = counts > np.maximum(FEW_IMAGES, LARGE_SHARE * sizes)
    number = int(large.any(axis=1).sum())
    if not number:
        return []
    shares = np.where(large, counts / np.maximum(sizes, 1), 0)
    group, label = np.unravel_index(int(shares.argmax()), shares.shape)
    example = data.names[kept[int(np.flatnonzero(groups == group)[0])]]
    return [
        f"{number} of {len(counts)} groups hold{'s' if number == 1 else ''} more than {LARGE_SHARE:.0%} of a class; "
        f"the group of {example} holds the most, {counts[group, label]:,} of the {sizes[label]:,} images of class "
        f"{data.class_names[label]}: each group stays in one split, so check that the splits are even enough"
    ]


def _read(path: Path) -> dict[str, str]:
    """Read the group of each image, by name of the image."""
    table = read_lines(path)
    name_column, group_column = table.required(NAME_COLUMNS), table.required((*GROUP_COLUMNS, "case", "subject"))
    by_name: dict[str, str] = {}
    for line in table.lines:
        name, group = line.values.get(name_column, ""), line.values.get(group_column, "")
        if not name or not group:
            raise DataError(
                f"{path} line {line.number}: the row must have values for {name_column} and {group_column}: "
                "fill in both, or remove the row"
            )
        if by_name.setdefault(name, group) != group:
            raise DataError(
                f"{path} line {line.number}: {name} must have one group, but has {group} here and {by_name[name]} "
                "in an earlier line: keep one of them"
            )
    return by_name


def _require_known(by_name: dict[str, str], data: LabelledImages, path: str) -> None:
    known = {*data.names, *(bad.name for bad in data.unreadable)}
    strangers = [name for name in by_name if name not in known]
    if strangers:
        example = data.names[0] if data.names else "none"
        raise DataError(
            f"{path} must only name images of the source, but {len(strangers):,} of {len(by_name):,} names are "
            f"unknown, such as {strangers[0]}: write names as in images.csv of the prepared set, such as {example}"
        )


def _links(groups: np.ndarray) -> np.ndarray:
    """Return pairs that link each image to the next of its group, int64 (m, 2)."""
    order = np.argsort(groups, kind="stable")
    same = groups[order][1:] == groups[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)

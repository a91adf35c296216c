"""Form groups of near copies that do not chain: each member resembles the picture that represents the group."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.cleaning import alignment
from data_prep.cleaning.near_copies import Link, Pictures
from data_prep.cleaning.pictures import Picture

_RESEMBLES, _OVERLAP = 0.8, 0.2  # least correlation and overlap of a member with the representative


@dataclass(frozen=True)
class NearGroups:
    """Groups of near copies.

    Attributes:
        pairs: each group's representative with each other member, by place, int64 (m, 2).
        cut: links between pictures of different groups: similar pictures, not versions of one.
    """

    pairs: np.ndarray
    cut: tuple[Link, ...]


def grouped(pictures: Pictures, links: Sequence[Link]) -> NearGroups:
    """Group near copies around representatives, the pictures with most links first."""
    ways: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for link in links:
        whole = np.vstack([link.matrix, [0, 0, 1]])
        ways[link.first].append((link.second, whole))
        ways[link.second].append((link.first, np.linalg.inv(whole)))
    group: dict[int, int] = {}
    pairs = []
    for start in sorted(ways, key=lambda place: (-len(ways[place]), place)):
        if start not in group:
            members = _resembling(pictures, start, ways, group)
            group |= dict.fromkeys(members, start)
            pairs += [(start, member) for member in members if member != start]
    cut = tuple(link for link in links if group[link.first] != group[link.second])
    return NearGroups(np.array(pairs, np.int64).reshape(-1, 2), cut)


def _resembling(
    pictures: Pictures, start: int, ways: dict[int, list[tuple[int, np.ndarray]]], taken: dict[int, int]
) -> list[int]:
    """Return the pictures that links lead to and that resemble the first one, moved as the links say."""
    found, waiting, first = {start: np.eye(3)}, deque([start]), pictures.picture(start)
    refused = set[int]()
    while waiting:
        here = waiting.popleft()
        for other, way in ways[here]:
            if other in found or other in taken or other in refused:
                continue
            moved = found[here] @ way
            if here == start or _resembles(pictures, first, other, moved):
                found[other] = moved
                waiting.append(other)
            else:
                refused.add(other)
    return list(found)


def _resembles(pictures: Pictures, first: Picture, other: int, moved: np.ndarray) -> bool:
    picture = pictures.picture(other)
    if first.is_blank or picture.is_blank:
        return False
    better = alignment.refined(first, picture, moved[:2])
    agreement = max(
        (alignment.compared(first, picture, matrix) for matrix in (moved[:2], better)), key=lambda one: one.correlation
    )
    return agreement.correlation >= _RESEMBLES and agreement.share >= _OVERLAP

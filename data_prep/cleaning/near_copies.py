"""Near copies: versions of one picture, recompressed, relit, turned, mirrored, shifted, cropped or sheared.

Averaged features and hashes say which pictures to compare; aligning proves it. Different pictures of one kind are not
near copies.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from data_prep.cleaning import alignment, copies, keypoints, neighbours
from data_prep.cleaning.alignment import Agreement
from data_prep.cleaning.pictures import Picture, comparable
from data_prep.progress import Progress

HASH_DISTANCE = 4
"""Most bits between the hashes of pictures that are compared for that reason alone."""


@dataclass(frozen=True)
class Sameness:
    """What counts as the same picture: least correlation and overlap, most that differs, most change of tint."""

    correlation: float
    share: float
    odd: float
    tint: float

    def holds(self, found: Agreement) -> bool:
        """Return whether two aligned pictures agree well enough."""
        alike = found.correlation >= self.correlation and found.share >= self.share
        return alike and found.odd <= self.odd and found.tint <= self.tint


MANY, STRONG = 12, Sameness(0.93, 0.25, 0.08, 255.0)
"""Number of keypoints that agree, from which no more is asked of the overlap."""
WEAK = Sameness(0.98, 0.3, 0.02, 32.0)
PLAIN = Sameness(0.985, 0.8, 0.01, 24.0)
"""Pictures with few keypoints, of which only the eight orientations were tried."""
_ROUNDS = (4, 24, 100)  # neighbours to compare; the later rounds are for pictures that had a near copy before
_LEAST = 0.2  # cosine of features of pictures that are compared
_FEW = 16  # keypoints below which pictures are tried in all eight orientations
_THUMB, _THUMB_LEAST, _THUMB_NEIGHBOURS = 16, 0.96, 4
_BLANK = 2.0  # grey levels between pictures of one colour that are the same picture


@dataclass(frozen=True)
class Link:
    """Two pictures, by place, that were proven to be near copies.

    Attributes:
        first: place of a picture.
        second: place of the other.
        matrix: maps the second comparable picture onto the first, float64 (2, 3).
        share: overlap as a share of the compared part of the first.
    """

    first: int
    second: int
    matrix: np.ndarray
    share: float


class Pictures:
    """Images with what is needed to find near copies among them. Places are positions in `among`."""

    def __init__(self, images: np.ndarray, hashes: np.ndarray, among: np.ndarray, progress: Progress | None = None):
        """Find the keypoints of the images to compare.

        Args:
            images: uint8 (n, h, w, 3).
            hashes: perceptual hashes, uint64 (n,).
            among: indices of the images to compare.
            progress: receiver of progress reports, in images.
        """
        self.images, self.among = images, among
        self.hashes = hashes[among]
        self.found = keypoints.detect(images, among, progress)

    def __len__(self) -> int:
        return len(self.among)

    def picture(self, place: int) -> Picture:
        """Return a comparable picture."""
        return comparable(self.images[self.among[place]])


def within(pictures: Pictures) -> list[Link]:
    """Return near copies among pictures: enough to link all that belong together, directly or through others."""
    joined = DisjointSet(range(len(pictures)))
    links: list[Link] = []

    def compare(pairs: Iterable[tuple[int, int]]) -> set[int]:
        found, tried = set[int](), set[tuple[int, int]]()
        for first, second in pairs:
            pair = (min(first, second), max(first, second))
            if first == second or pair in tried or joined.connected(*pair):
                continue
            tried.add(pair)
            link = proven((pictures, pair[0]), (pictures, pair[1]))
            if link is not None:
                joined.merge(*pair)
                links.append(link)
                found.update(pair)
        return found

    compare(_alike_by_hash(pictures))
    compare(_thumbnails_alike(pictures, pictures))
    rows = neighbours.features(pictures.found)
    places = np.flatnonzero(pictures.found.counts >= alignment.FEWEST)
    for count in _ROUNDS:
        near = neighbours.nearest(rows[places], rows, count + 1, _LEAST)
        places = np.array(sorted(compare((int(places[row]), int(at)) for row, those in near for at in those)), int)
    return links


def between(ours: Pictures, theirs: Pictures) -> Iterator[tuple[int, int]]:
    """Yield pairs (place in the first set, place in the second set) of near copies, copies among them."""
    tried = set[tuple[int, int]]()
    for pair in _alike_between(ours, theirs):
        if pair not in tried:
            tried.add(pair)
            if proven((ours, pair[0]), (theirs, pair[1])) is not None:
                yield pair


def _alike_between(ours: Pictures, theirs: Pictures) -> Iterator[tuple[int, int]]:
    for pairs in copies.near(ours.hashes, theirs.hashes, HASH_DISTANCE):
        yield from map(tuple, pairs.tolist())
    rows = neighbours.features(keypoints.together(ours.found, theirs.found))
    places = np.flatnonzero(ours.found.counts >= alignment.FEWEST)
    for row, near in neighbours.nearest(rows[places], rows[len(ours) :], _ROUNDS[1], _LEAST):
        yield from ((int(places[row]), int(at)) for at in near)
    yield from _thumbnails_alike(ours, theirs)


def proven(one: tuple[Pictures, int], other: tuple[Pictures, int]) -> Link | None:
    """Return how two pictures, given by set and place, align, if aligning proves that they are near copies."""
    (ours, first), (theirs, second) = one, other
    points = ours.found.of(first), theirs.found.of(second)
    moved = alignment.by_keypoints(*points, int(theirs.found.sizes[second][1]))
    plain = min(len(points[0][0]), len(points[1][0])) < _FEW
    hashes_alike = int(ours.hashes[first] ^ theirs.hashes[second]).bit_count() <= HASH_DISTANCE
    if moved is None and not plain and not hashes_alike:
        return None
    images = ours.images[ours.among[first]], theirs.images[theirs.among[second]]
    if hashes_alike and copies.differ_in_one_spot(*images):
        return Link(first, second, np.eye(2, 3), 1.0)
    pair = ours.picture(first), theirs.picture(second)
    if any(one.is_blank for one in pair):
        agreement = _one_colour(*pair)
    elif moved is None:
        agreement = judged(*pair, _best_orientation(*pair), PLAIN, motion=cv2.MOTION_EUCLIDEAN)
    else:
        agreement = judged(*pair, moved[0], STRONG if moved[1] >= MANY else WEAK)
    return None if agreement is None else Link(first, second, agreement.matrix, agreement.share)


def is_same_view(image: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two images, uint8 (h, w, 3) with similar pHash, show the same view: no turn, hardly a shift."""
    if copies.differ_in_one_spot(image, other):
        return True
    pair = comparable(image), comparable(other)
    if any(one.is_blank for one in pair):
        return _one_colour(*pair) is not None
    return judged(*pair, _centred(*pair), STRONG) is not None


SAME_VIEW = copies.Likeness(HASH_DISTANCE, is_same_view)


def _centred(first: Picture, second: Picture) -> np.ndarray:
    return next(alignment.orientations(first.smooth.shape, second.smooth.shape))


def judged(
    first: Picture, second: Picture, matrix: np.ndarray, rule: Sameness, motion: int = cv2.MOTION_AFFINE
) -> Agreement | None:
    """Return how two pictures agree once the second is moved onto the first, if the rule holds."""
    margin = 0 if rule is PLAIN else alignment.MARGIN
    agreement = alignment.compared(first, second, matrix, margin)
    if not rule.holds(agreement) and agreement.correlation > 0.5:
        agreement = alignment.compared(first, second, alignment.refined(first, second, matrix, motion), margin)
    return agreement if rule.holds(agreement) else None


def _best_orientation(first: Picture, second: Picture) -> np.ndarray:
    thumbs = [cv2.resize(one.smooth, (_THUMB, _THUMB)) for one in (first, second)]
    fits = [
        float(np.corrcoef(thumbs[0].ravel(), cv2.warpAffine(thumbs[1], way, (_THUMB, _THUMB)).ravel())[0, 1])
        for way in alignment.orientations(thumbs[0].shape, thumbs[1].shape)
    ]
    return list(alignment.orientations(first.smooth.shape, second.smooth.shape))[int(np.argmax(fits))]


def _one_colour(first: Picture, second: Picture) -> Agreement | None:
    """Return agreement of two pictures of which one shows nothing: they are alike if both have one colour."""
    apart = np.abs(first.colour.mean(axis=(0, 1)) - second.colour.mean(axis=(0, 1))).max()
    same = first.is_blank and second.is_blank and apart < _BLANK
    return Agreement(np.eye(2, 3), 1.0, 1.0, 0.0, float(apart)) if same else None


def _alike_by_hash(pictures: Pictures) -> Iterator[tuple[int, int]]:
    for pairs in copies.near(pictures.hashes, pictures.hashes, HASH_DISTANCE):
        yield from map(tuple, pairs[pairs[:, 0] < pairs[:, 1]].tolist())


def _thumbnails_alike(ours: Pictures, theirs: Pictures) -> Iterator[tuple[int, int]]:
    """Yield pairs of pictures with few keypoints whose thumbnails are alike in one of the eight orientations."""
    (places, thumbs), (others, other_thumbs) = _thumbnails(ours), _thumbnails(theirs)
    if not len(places) or not len(others):
        return
    turned = [np.rot90(other_thumbs, turn, (1, 2)).reshape(len(others), -1) for turn in range(4)]
    turned += [np.rot90(other_thumbs[:, :, ::-1], turn, (1, 2)).reshape(len(others), -1) for turn in range(4)]
    for row, thumb in enumerate(thumbs.reshape(len(places), -1)):
        likeness = np.max([way @ thumb for way in turned], axis=0)
        near = np.argsort(-likeness)[:_THUMB_NEIGHBOURS]
        yield from ((int(places[row]), int(others[at])) for at in near if likeness[at] >= _THUMB_LEAST)


def _thumbnails(pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of pictures with few keypoints, and their thumbnails with one contrast, float32 (k, h, w)."""
    places = np.flatnonzero(pictures.found.counts < _FEW)
    thumbs = [cv2.resize(pictures.picture(place).smooth, (_THUMB, _THUMB)) for place in places.tolist()]
    rows = np.stack(thumbs) if thumbs else np.empty((0, _THUMB, _THUMB), np.float32)
    rows -= rows.mean(axis=(1, 2), keepdims=True)
    return places, rows / np.maximum(np.linalg.norm(rows, axis=(1, 2), keepdims=True), 1e-6)

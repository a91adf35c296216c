"""Split images into train, validation and test, in proportion within each class; groups stay whole."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from data_prep.errors import DataError
from data_prep.settings import SPLITS

SIDES = len(SPLITS)
# A group is small if it holds at most FEW_IMAGES images of any class, or LARGE_SHARE of the class if that is more.
FEW_IMAGES, LARGE_SHARE = 3, 0.05
# Groups count as one-class groups if at most this share of all images differ from the majority class of their group.
_MIXED_SHARE = 0.01
_PASSES = 20  # most passes over all groups to even out the splits


def stratified_part(labels: np.ndarray, count: int, seed: int, least: int = SIDES) -> np.ndarray:
    """Draw a stratified part of the images.

    At least `least` images of each label are drawn (or all, if it has fewer), otherwise in proportion. scikit-learn's
    stratified draw would leave out labels with few images.

    Args:
        labels: int64 (n,), classes, or combinations of class and split.
        count: number of images to draw, 1 or more.
        seed: random seed of the draw.
        least: fewest images per label, 1 or more.

    Returns:
        Sorted indices of the images drawn.

    Raises:
        DataError: `count` is too small for `least` images of each label.
    """
    if count >= len(labels):
        return np.arange(len(labels))
    strata, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    floor = np.minimum(sizes, least)
    if count < floor.sum():
        # With a least of 1, labels combine class and split: the source's own split is kept.
        needed = f"{least} images of each class" if least > 1 else "an image of each class in each split"
        raise DataError(
            f"limit must be {floor.sum()} or more of the {len(labels)} images, to keep {needed}, but is {count}: "
            "raise or drop --limit"
        )
    ideal = count * sizes / len(labels)
    takes = np.maximum(ideal.astype(np.int64), floor)
    while takes.sum() < count:
        takes[np.where(takes < sizes, ideal - takes, -np.inf).argmax()] += 1
    while takes.sum() > count:
        takes[np.where(takes > floor, takes - ideal, -np.inf).argmax()] -= 1
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(places == row))[: takes[row]] for row in range(len(strata))]
    return np.sort(np.concatenate(drawn))


def split_groups(
    groups: np.ndarray, labels: np.ndarray, split: tuple[int, int, int], class_names: Sequence[str], seed: int
) -> np.ndarray:
    """Assign each image to a split, in proportion within each class; groups stay whole.

    A small group counts for its majority class, and the groups of each class are split separately, so that three groups
    are enough for a class to be in all splits. Large groups (patients) are assigned by their images of each class.

    Args:
        groups: int64 (n,), group numbers.
        labels: int64 (n,).
        split: percentages of train, validation and test.
        class_names: names by label.
        seed: random seed of the assignment.

    Returns:
        int8 (n,): 0 train, 1 validation, 2 test.

    Raises:
        DataError: a class is missing from a split.
    """
    numbers, inverse = np.unique(groups, return_inverse=True)
    votes = np.zeros((len(numbers), len(class_names)), np.int64)
    np.add.at(votes, (inverse, labels), 1)
    for name, holding in zip(class_names, np.count_nonzero(votes, axis=0).tolist(), strict=True):
        if holding < SIDES:
            raise _too_few(name, holding)
    sides = (_by_majority if _are_small(votes) else _by_need)(votes, split, seed)[inverse]
    for label, name in enumerate(class_names):
        if len(np.unique(sides[labels == label])) < SIDES:
            raise _too_few(name, len(np.unique(groups[labels == label])))
    return np.asarray(sides)


def completed(
    own: np.ndarray,
    groups: np.ndarray,
    labels: np.ndarray,
    split: tuple[int, int, int],
    class_names: Sequence[str],
    seed: int,
) -> np.ndarray:
    """Return a source's own split; a split that it lacks is taken from its training images, in whole groups.

    Args:
        own: int8 (n,), the source's own split as indices into SPLITS; no group is in two splits.
        groups: int64 (n,), group numbers.
        labels: int64 (n,).
        split: percentages of train, validation and test; a missing split gets its percentage of the training images.
        class_names: names by label.
        seed: random seed of the draw from the training images.

    Returns:
        int8 (n,), indices into SPLITS.

    Raises:
        DataError: a class is missing from a split.
    """
    sides, train = own.copy(), own == 0
    lacking = [side for side in range(1, SIDES) if side not in own]
    if lacking and train.any():
        parts = split_groups(groups[train], labels[train], split, class_names, seed)
        sides[train] = np.where(np.isin(parts, lacking), parts, 0)
    for label, name in enumerate(class_names):
        missing = [split for side, split in enumerate(SPLITS) if side not in sides[labels == label]]
        if missing:
            raise DataError(
                f"class {name} must have images in each of {', '.join(SPLITS)}, but the source's own split has none in "
                f"{' and '.join(missing)} after cleaning: add images, leave the class out, or give --split "
                "for a new split"
            )
    return sides


def _are_small(votes: np.ndarray) -> bool:
    """Return whether groups, int64 (groups, classes) images, are small and of one class, and can be split by number."""
    several = np.bincount(votes.argmax(axis=1), minlength=votes.shape[1]) >= SIDES
    few = (votes <= np.maximum(FEW_IMAGES, LARGE_SHARE * votes.sum(axis=0))).all()
    return bool(several.all() and few and votes.max(axis=1).sum() >= (1 - _MIXED_SHARE) * votes.sum())


def _by_majority(votes: np.ndarray, split: tuple[int, int, int], seed: int) -> np.ndarray:
    """Return the split of each group; groups of each majority class are split separately, by their number."""
    majority = votes.argmax(axis=1)
    side = np.zeros(len(votes), np.int8)
    for label in range(votes.shape[1]):
        members = np.flatnonzero(majority == label)
        validation, test = (max(1, round(len(members) * share / 100)) for share in split[1:])
        held, test_members = _parted(members, min(test, len(members) - 2), seed)
        _, validation_members = _parted(held, min(validation, len(held) - 1), seed)
        side[validation_members], side[test_members] = 1, 2
    return side


def _by_need(votes: np.ndarray, split: tuple[int, int, int], seed: int) -> np.ndarray:
    """Return the split of each group, for groups that are large or of several classes, such as patients.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011): take the class with the fewest unassigned groups,
    its largest group first, and assign each group to the split that most lacks its images. The last groups of a class
    go to splits that have no image of the class.
    """
    totals = votes.sum(axis=0)
    need = np.outer(split, totals) / 100
    side = np.full(len(votes), -1, np.int8)
    shuffled = np.random.default_rng(seed).permutation(len(votes))
    while (side < 0).any():
        left = np.count_nonzero(votes[side < 0], axis=0)
        label = int(np.where(left > 0, left, len(votes) + 1).argmin())
        members = shuffled[(side[shuffled] < 0) & (votes[shuffled, label] > 0)]
        members = members[np.argsort(-votes[members, label], kind="stable")]
        missing = set(range(SIDES)) - set(side[(side >= 0) & (votes[:, label] > 0)].tolist())
        for place, group in enumerate(members):
            lacks = need @ (votes[group] / totals**2)
            open_to = sorted(missing) if len(members) - place <= len(missing) else range(SIDES)
            chosen = max(open_to, key=lacks.tolist().__getitem__)
            side[group] = chosen
            need[chosen] -= votes[group]
            missing.discard(chosen)
    _even_out(side, votes, need)
    return side


def _even_out(side: np.ndarray, votes: np.ndarray, need: np.ndarray) -> None:
    """Move groups, one by one, to the split where they most reduce the sum of squared shortfalls.

    A shortfall is the number of images of a class that a split lacks, as a share of the class.

    Args:
        side: int8 (groups,), split of each group; changed in place. No split loses the last group of a class.
        votes: int64 (groups, classes), number of images.
        need: float64 (splits, classes), images that each split lacks; changed in place.
    """
    totals = votes.sum(axis=0)
    holders = np.stack([np.count_nonzero(votes[side == one], axis=0) for one in range(SIDES)])
    for _ in range(_PASSES):
        moves = 0
        for group, images in enumerate(votes):
            side_now = side[group]
            gain = (images * (need - need[side_now] - images) / totals**2).sum(axis=1)
            gain[side_now] = 0
            target = int(gain.argmax())
            if gain[target] > 1e-9 and (holders[side_now][images > 0] > 1).all():
                side[group] = target
                need[side_now] += images
                need[target] -= images
                holders[side_now] -= images > 0
                holders[target] += images > 0
                moves += 1
        if not moves:
            return


def _parted(members: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rest, taken = train_test_split(members, test_size=count, random_state=seed)
    return rest, taken


def _too_few(name: str, groups: int) -> DataError:
    if groups >= SIDES:
        return DataError(
            f"class {name} must have images in each of train, validation and test, but no split was found that keeps "
            f"its {groups} groups whole: give another --seed or --split, or smaller groups"
        )
    return DataError(
        f"class {name} must have images in {SIDES} or more groups (near copies form one group), one for each of train, "
        f"validation and test, but has {groups} group{'' if groups == 1 else 's'} after cleaning: add different images "
        "of it, or leave the class out"
    )

"""Settings of `prepare`: its options with their defaults and rules."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from data_prep.errors import DataError

STRENGTHS: Mapping[str, float] = MappingProxyType({"low": 0.1, "medium": 0.5, "hard": 0.9, "strong": 1.0})
"""Strength of each augmentation level, as its function in data_prep/augmentation/levels.py (MAKERS) defines it."""

SPLITS = ("train", "validation", "test")
DEFAULT_SPLIT = (70, 15, 15)
VALUE_RANGES = ("0..1", "0..255")
NEAR_COPIES = ("join", "report", "off")

EXTERNAL_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""Allowed names of external sets. The name is part of file names and of an objective's name."""


@dataclass(frozen=True)
class PrepareSettings:
    """Options of one run of `prepare`.

    Attributes:
        source: path or name that a row of SOURCES in data_prep/sources/registry.py recognises.
        image_size: side in pixels to which pictures are resized, 8 to 1024; arrays keep their size.
        anomalies: paths of pictures; images that look like one of them are rejected.
        recurrence_limit: a picture that occurs more often than this is rejected with all its copies; 1 or more.
        levels: augmentation levels, names from STRENGTHS. Each is one part of the bank of views. "strong*4" makes 4
            views per image at that level. Empty makes no views.
        copies: augmented views per training image, for each level without a number of its own; 1 to 100.
        corrupted_views: corrupted views per validation and test image, 0 (none) to 10.
        split: percentages of train, validation and test, each above 0, with the sum 100. None keeps the source's own
            split, or uses DEFAULT_SPLIT if the source has none.
        seed: random seed of the split, the augmentation, the corruptions, the draw by `limit`, and the demo set.
        limit: number of images to keep, in proportion to the classes; None keeps all. It is applied after cleaning,
            so that it does not affect which copies and contradicting labels cleaning finds.
        size: side in pixels of the images, for sources that offer several; None takes the source's default.
        value_range: one of VALUE_RANGES, for arrays whose range is ambiguous; None infers it from the values.
        class_names: names by label, for sources that number their classes; empty keeps the numbers.
        groups: path of a table with one row per image that names its group (patient, slide); None for no table.
        near_copies: one of NEAR_COPIES: keep near copies on one side, only count them, or do not look for them.
        external: external sets as "NAME=PATH": images from another scanner or hospital that trials are also scored on.

    Raises:
        DataError: a value breaks its rule.
    """

    source: str
    image_size: int = 96
    anomalies: tuple[str, ...] = ()
    recurrence_limit: int = 10
    levels: tuple[str, ...] = ("low", "medium", "hard")
    copies: int = 1
    corrupted_views: int = 2
    split: tuple[int, int, int] | None = None
    seed: int = 0
    limit: int | None = None
    size: int | None = None
    value_range: str | None = None
    class_names: tuple[str, ...] = ()
    groups: str | None = None
    near_copies: str = "join"
    external: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = [level.partition("*") for level in self.levels]
        names = level_names(self.levels)
        rules = (
            (8 <= self.image_size <= 1024, f"image size must be 8 to 1024 pixels, but is {self.image_size}"),
            (self.recurrence_limit >= 1, f"recurrence limit must be 1 or more, but is {self.recurrence_limit}"),
            (1 <= self.copies <= 100, f"copies must be 1 to 100, but is {self.copies}"),
            (
                all(copies.isdecimal() and 1 <= int(copies) <= 100 for _, star, copies in parts if star),
                f"copies of a level must be 1 to 100, as in strong*4, but levels are {', '.join(self.levels)}",
            ),
            (0 <= self.corrupted_views <= 10, f"corrupted views must be 0 to 10, but are {self.corrupted_views}"),
            (0 <= self.seed < 2**32, f"seed must be 0 to 4294967295, but is {self.seed}"),
            (self.limit is None or self.limit >= 1, f"limit must be 1 or more, but is {self.limit}"),
            (
                self.split is None or (len(self.split) == 3 and min(self.split) > 0 and sum(self.split) == 100),
                f"split must be three percentages above 0 with the sum 100, such as 70/15/15, "
                f"but is {'/'.join(map(str, self.split or ()))}",
            ),
            (
                self.value_range in (None, *VALUE_RANGES),
                f"value range must be one of {', '.join(VALUE_RANGES)}, but is {self.value_range}",
            ),
            (
                self.near_copies in NEAR_COPIES,
                f"near copies must be one of {', '.join(NEAR_COPIES)}, but are {self.near_copies}",
            ),
            (
                len(set(self.class_names)) == len(self.class_names) and all(map(str.strip, self.class_names)),
                f"class names must be different and not empty, but are {', '.join(self.class_names)}",
            ),
            (
                set(names) <= set(STRENGTHS) and len(set(names)) == len(names),
                f"levels must be none, or one or more of {', '.join(STRENGTHS)}, each at most once, "
                f"but are {', '.join(self.levels)}",
            ),
        )
        for holds, rule in rules:
            if not holds:
                raise DataError(rule)
        _check_external(self.external)

    @property
    def level_copies(self) -> dict[str, int]:
        """Augmented views per training image, by level name."""
        parts = (level.partition("*") for level in self.levels)
        return {name: int(copies) if star else self.copies for name, star, copies in parts}

    @property
    def external_sources(self) -> dict[str, str]:
        """Source of each external set, by name."""
        return {name: source for name, _, source in (one.partition("=") for one in self.external)}


def _check_external(given: Iterable[str]) -> None:
    """Check form and names of external sets; names must differ in more than case: some file systems ignore it."""
    taken_names = set(SPLITS)
    for one in given:
        name, _, source = one.partition("=")
        if not source or not EXTERNAL_NAME.fullmatch(name):
            raise DataError(
                "an external set must be NAME=PATH, where NAME is 1 to 40 letters, digits, - or _, "
                f"but is {one!r}: write for example other=scanner-b.npz"
            )
        if name.casefold() in taken_names:
            raise DataError(
                f"external sets must have different names, other than {', '.join(SPLITS)}, but {name!r} is taken: "
                "give another name"
            )
        taken_names.add(name.casefold())


def level_names(levels: Iterable[str]) -> tuple[str, ...]:
    """Return the level names without their numbers of views: "strong" for "strong*4"."""
    return tuple(level.partition("*")[0] for level in levels)

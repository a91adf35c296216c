"""Pixel values that are not uint8: which range they are meant in, and how they become uint8 0..255.

The rule, over all images of a source together: values must be finite and lie in 0..255. Whole numbers that go beyond 1
are 0..255; values up to 1 with some that are not whole are 0..1; booleans are 0..1. All else is doubtful, and the user
says which: zeros and ones alone may be either, and so may 0..255 with fractions, which some resizing leaves.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_prep.errors import DataError
from data_prep.settings import VALUE_RANGES

UNIT, BYTES = VALUE_RANGES


@dataclass(frozen=True)
class Extent:
    """Lowest and highest of some values, and whether all of them are whole; NaN where one of them is."""

    low: float = np.inf
    high: float = -np.inf
    whole: bool = True

    def with_values(self, values: np.ndarray) -> "Extent":
        """The extent of these values as well, of any shape; none of them changes nothing."""
        if not values.size:
            return self
        low, high = float(values.min()), float(values.max())
        whole = self.whole and (values.dtype.kind not in "f" or bool((np.rint(values) == values).all()))
        return Extent(float(np.minimum(self.low, low)), float(np.maximum(self.high, high)), whole)


def require_numbers(dtype: np.dtype, where: str) -> None:
    """Raises DataError for a dtype that holds no pixels."""
    if dtype.kind not in "uifb":
        raise DataError(f"{where} must be numbers, best uint8 with values 0..255, but are {dtype}: convert them first")


def range_of(dtype: np.dtype, asked: str | None, chunks: Iterable[np.ndarray], where: str) -> str:
    """One of VALUE_RANGES, by the rule above. uint8 is 0..255 unless 0..1 is asked for, and is not looked at.

    Args:
        dtype: of the values.
        asked: what the user says; checked.
        chunks: all values, of any shapes.
        where: names the images in errors.

    Raises:
        DataError: values beyond their range, or doubtful ones and nothing asked.
    """
    if dtype == np.uint8 and asked != UNIT:
        return BYTES
    if dtype.kind == "b" and asked is None:
        return UNIT
    extent = Extent()
    for values in chunks:
        extent = extent.with_values(values)
    low, high = extent.low, extent.high
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(
            f"{where} must have finite values, but some are NaN or infinite: mend or leave out those images"
        )
    if low < 0 or high > 255:
        raise DataError(f"{where} must have values in 0..255 or 0..1, but have {low:g}..{high:g}: rescale them first")
    if asked == UNIT and high > 1:
        raise DataError(f"{where} must have values up to 1 for --value-range {UNIT}, but go up to {high:g}: drop it")
    if asked is not None:
        return asked
    if extent.whole != (high > 1):
        what = f"zeros and ones alone, {UNIT} or {BYTES}" if high <= 1 else f"some not whole, {BYTES} or neither"
        raise DataError(
            f"{where} are {dtype} with values {low:g}..{high:g}, {what}: say which with `hpsearch prepare "
            "--value-range`, or convert them to uint8"
        )
    return BYTES if extent.whole else UNIT


def to_uint8(values: np.ndarray, value_range: str) -> np.ndarray:
    """Values in the range, rounded to uint8 of the same shape, 0..255."""
    if value_range == BYTES:
        return values if values.dtype == np.uint8 else np.rint(values).astype(np.uint8)
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)

"""Pixel values that are not uint8: detection of their range, and conversion to uint8 0..255.

The rule applies to all images of a source together. Values must be finite and lie in 0..255.

- Whole numbers, some of them above 1, have the range 0..255.
- Values up to 1, some of them fractions, have the range 0..1. Booleans have it too.
- Anything else is ambiguous, and the user must give the range: zeros and ones alone fit both ranges, and values above 1
  with fractions, which some resizing leaves, may be 0..255 or neither.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_prep.errors import DataError
from data_prep.settings import VALUE_RANGES

UNIT, BYTES = VALUE_RANGES


@dataclass(frozen=True)
class Extent:
    """Lowest and highest of some values, NaN if any value is NaN, and whether all of them are whole numbers."""

    low: float = np.inf
    high: float = -np.inf
    whole: bool = True

    def with_values(self, values: np.ndarray) -> "Extent":
        """Return the extent that also covers these values, of any shape; an empty array changes nothing."""
        if not values.size:
            return self
        low, high = float(values.min()), float(values.max())
        whole = self.whole and (values.dtype.kind not in "f" or bool((np.rint(values) == values).all()))
        return Extent(float(np.minimum(self.low, low)), float(np.maximum(self.high, high)), whole)


def require_numbers(dtype: np.dtype, where: str) -> None:
    """Require a dtype that can hold pixels: numbers or booleans.

    Raises:
        DataError: The dtype is neither.
    """
    if dtype.kind not in "uifb":
        raise DataError(
            f"{where} must be numbers, ideally uint8 with values 0..255, but are {dtype}: convert them first"
        )


def range_of(dtype: np.dtype, asked: str | None, chunks: Iterable[np.ndarray], where: str) -> str:
    """Return the range of the values, one of VALUE_RANGES, by the rule at the top of this file.

    uint8 counts as 0..255, without reading the values, unless the user asks for 0..1.

    Args:
        dtype: Dtype of the values.
        asked: Range that the user gives, which the values must fit; None applies the rule.
        chunks: All values, in arrays of any shape.
        where: Name of the images, for errors.

    Raises:
        DataError: Values are not finite or out of range, or they are ambiguous and `asked` is None.
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
        raise DataError(f"{where} must have finite values, but some are NaN or infinite: fix or remove those images")
    if low < 0 or high > 255:
        raise DataError(f"{where} must have values in 0..255 or 0..1, but have {low:g}..{high:g}: rescale them first")
    if asked == UNIT and high > 1:
        raise DataError(
            f"{where} must have values up to 1 for --value-range {UNIT}, but go up to {high:g}: drop --value-range"
        )
    if asked is not None:
        return asked
    if extent.whole != (high > 1):
        fits = f"only zeros and ones, which fit {UNIT} and {BYTES}"
        what = fits if high <= 1 else f"some of them fractions, which may be {BYTES} or another range"
        raise DataError(
            f"{where} are {dtype} with values {low:g}..{high:g}, {what}: give the range with `hpsearch prepare "
            "--value-range`, or convert them to uint8"
        )
    return BYTES if extent.whole else UNIT


def to_uint8(values: np.ndarray, value_range: str) -> np.ndarray:
    """Scale values from their range to 0..255, and round them to uint8 of the same shape."""
    if value_range == BYTES:
        return values if values.dtype == np.uint8 else np.rint(values).astype(np.uint8)
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)

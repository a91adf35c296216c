"""Rank correlations between two columns of scores.

They do not use `scipy.stats`, which takes longer to import than the whole `compare` command takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np


def rank_correlations(first: Sequence[float], second: Sequence[float]) -> dict[str, float | None]:
    """Return Kendall's tau (tau-b, which accounts for ties) and Spearman's rho, -1..1; None if a column is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return {"kendall_tau": None, "spearman_rho": None}
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    rho = np.corrcoef(_ranks(one), _ranks(other))[0, 1]
    return {"kendall_tau": _kendall_tau(one, other), "spearman_rho": float(rho)}


def _kendall_tau(one: np.ndarray, other: np.ndarray) -> float:
    """Return (concordant - discordant pairs) / sqrt(pairs untied in one * pairs untied in the other), Kendall 1945."""
    agreement, untied_in_one, untied_in_other = 0.0, 0, 0
    for place in range(len(one) - 1):  # row by row: a matrix of all pairs needs quadratic memory
        signs = np.sign(one[place + 1 :] - one[place]), np.sign(other[place + 1 :] - other[place])
        agreement += float((signs[0] * signs[1]).sum())
        untied_in_one += int(np.count_nonzero(signs[0]))
        untied_in_other += int(np.count_nonzero(signs[1]))
    return agreement / sqrt(untied_in_one * untied_in_other)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks 1, 2, ...; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    result: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return result

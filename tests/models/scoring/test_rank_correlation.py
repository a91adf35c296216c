"""Rank correlations against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from models.scoring.rank_correlation import rank_correlations


@pytest.mark.parametrize("count", [2, 5, 200])
def test_as_scipy_has_them_ties_included(count: int) -> None:
    rng = np.random.default_rng(count)
    first = np.append(rng.integers(0, max(2, count // 3), count - 1), count).astype(float)
    for second in (first + rng.integers(0, count, count), -first):
        found = rank_correlations(first.tolist(), second.tolist())
        assert found["kendall_tau"] == pytest.approx(kendalltau(first, second).statistic)
        assert found["spearman_rho"] == pytest.approx(spearmanr(first, second).statistic)


def test_a_constant_column_ranks_nothing() -> None:
    assert rank_correlations([1, 1, 1], [1, 2, 3]) == {"kendall_tau": None, "spearman_rho": None}

from __future__ import annotations

import pytest

from models.ranking import rank_correlations


def test_rank_correlations() -> None:
    assert rank_correlations([1, 2, 3, 4], [10, 20, 40, 30]) == {
        "kendall_tau": pytest.approx(4 / 6),
        "spearman_rho": pytest.approx(0.8),
    }
    assert rank_correlations([1, 1, 1], [1, 2, 3]) == {"kendall_tau": None, "spearman_rho": None}

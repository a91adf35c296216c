"""Whether two columns of scores rank trials alike."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import kendalltau, spearmanr


def rank_correlations(first: Sequence[float], second: Sequence[float]) -> dict[str, float | None]:
    """Kendall's tau (tau-b, which minds ties) and Spearman's rho, -1..1; None where a column is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return {"kendall_tau": None, "spearman_rho": None}
    tau, rho = kendalltau(first, second).statistic, spearmanr(first, second).statistic
    return {"kendall_tau": float(tau), "spearman_rho": float(rho)}

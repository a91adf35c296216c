"""How far a model's answers are from classes as frequent as they should be: an optimal transport.

A network that sees images of a kind it cannot read often calls them all by one name and is sure of it, which no
confidence tells; that the names do not come in the usual proportions does.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

MOST_IMAGES = 1000
"""The time grows with the square of the images and more; beyond, a sample is taken: the same in each call."""


def transport_costs(probabilities: np.ndarray, class_shares: np.ndarray) -> np.ndarray:
    """Costs, 0..1, of giving each image a class at the least total cost, so that classes come in these shares.

    An image costs 1 - the probability of the class it is given (Lu et al. 2023, Predicting Out-of-Distribution Error
    with Confidence Optimal Transport, eq. 4: the maximum norm between its probabilities and the class as one-hot).

    Args:
        probabilities: float (n, classes), rows summing to 1.
        class_shares: float (classes,), summing to 1.

    Returns:
        float (min(n, MOST_IMAGES),), of a sample of the images.
    """
    count = min(len(probabilities), MOST_IMAGES)
    sample = probabilities[np.random.default_rng(0).choice(len(probabilities), count, replace=False)]
    costs = 1 - sample[:, np.repeat(np.arange(len(class_shares)), _quotas(class_shares, count))]
    rows, columns = linear_sum_assignment(costs)
    result: np.ndarray = costs[rows, columns]
    return result


def _quotas(shares: np.ndarray, count: int) -> np.ndarray:
    """int (classes,), summing to `count`: the largest remainders are rounded up."""
    exact = shares / shares.sum() * count
    quotas: np.ndarray = np.floor(exact).astype(int)
    most = np.argsort(quotas - exact, kind="stable")[: count - quotas.sum()]
    quotas[most] += 1
    return quotas

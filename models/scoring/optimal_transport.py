"""Optimal transport cost from a model's predictions to classes in their usual proportions.

A network that meets an unfamiliar kind of images often assigns them all to one class with high confidence. Confidence
does not reveal this, but the unusual proportions of the classes do.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

MOST_IMAGES = 1000
"""Largest number of images used; more are sampled, alike in each call. Time grows at least with their square."""


def transport_costs(probabilities: np.ndarray, class_shares: np.ndarray) -> np.ndarray:
    """Return each image's cost when images are assigned to classes in given shares at the least total cost.

    An image costs 1 - the probability of its assigned class (Lu et al. 2023, Predicting Out-of-Distribution Error with
    Confidence Optimal Transport, eq. 4: the maximum norm between its probabilities and the one-hot class).

    Args:
        probabilities: float (n, classes), each row sums to 1.
        class_shares: float (classes,), sums to 1.

    Returns:
        Costs of a sample of the images, float (min(n, MOST_IMAGES),), 0..1.
    """
    count = min(len(probabilities), MOST_IMAGES)
    sample = probabilities[np.random.default_rng(0).choice(len(probabilities), count, replace=False)]
    costs = 1 - sample[:, np.repeat(np.arange(len(class_shares)), _quotas(class_shares, count))]
    rows, columns = linear_sum_assignment(costs)
    result: np.ndarray = costs[rows, columns]
    return result


def _quotas(shares: np.ndarray, count: int) -> np.ndarray:
    """Split `count` by these shares, int (classes,): the largest remainders are rounded up."""
    exact = shares / shares.sum() * count
    quotas: np.ndarray = np.floor(exact).astype(int)
    most = np.argsort(quotas - exact, kind="stable")[: count - quotas.sum()]
    quotas[most] += 1
    return quotas

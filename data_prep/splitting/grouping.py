"""Form groups of images from pairs of images that belong together."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def group_by_pairs(count: int, pairs: Sequence[tuple[int, int]] | np.ndarray) -> np.ndarray:
    """Return the group of each image: images linked by pairs, directly or through others, form one group.

    Args:
        count: number of images.
        pairs: pairs of image indices.

    Returns:
        int64 (count,), group numbers 0, 1, ... in the order of their first image.
    """
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, groups = connected_components(graph, directed=False)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[inverse]

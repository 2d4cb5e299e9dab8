"""Which components a row's categories make likely, as a linear function of their indicators."""

from collections.abc import Sequence

import numpy as np


def groups_of(c: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The groups of the levels (n, m), of conditions c that begin with indicators: so many of each
    category, and none in group 0."""
    ends = np.cumsum(sizes).astype(int)
    parts = np.split(c[:, : sum(sizes)], ends[:-1], axis=1)
    return np.stack([part @ np.arange(1, part.shape[1] + 1) for part in parts], 1).astype(int)


def linear(
    log_weights: np.ndarray, levels: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """b (k,) and W (k, l), for which b + W c is the sum of log_weights and of what every category
    adds: levels, (k, groups) of each. W is None without indicators."""
    b = log_weights + sum(logs[:, 0] for logs in levels)
    parts = [np.empty((len(b), 0)), *(logs[:, 1:] - logs[:, :1] for logs in levels)]
    W = np.concatenate(parts, axis=1)
    return b, W if W.shape[1] else None

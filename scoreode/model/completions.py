"""Sums over the levels of categories that are unknown."""

from collections.abc import Sequence
from itertools import product

import numpy as np


def completions(codes: np.ndarray, levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The number of the row of every completion, and all codes (N, m) without NaN that agree with
    codes (n, m) in what is known, in the order of the rows.

    **Arguments:** `levels`, how many each column has.
    """
    unknown_in = np.asarray(np.isnan(codes))
    patterns, where = np.unique(unknown_in, axis=0, return_inverse=True)
    numbers, complete = [np.empty(0, int)], [np.empty((0, codes.shape[1]))]
    for i, pattern in enumerate(patterns):
        rows, unknown = np.flatnonzero(where.ravel() == i), np.flatnonzero(pattern).tolist()
        every = np.array(list(product(*(range(levels[j]) for j in unknown))), float)
        numbers.append(np.repeat(rows, len(every)))
        found = codes[numbers[-1]]
        found[:, unknown] = np.tile(every, (len(rows), 1))
        complete.append(found)
    order = np.argsort(np.concatenate(numbers), kind="stable")
    return np.concatenate(numbers)[order], np.concatenate(complete)[order]


def sum_by_row(logs: np.ndarray, numbers: np.ndarray, n: int) -> np.ndarray:
    """log Σ exp of the logs of every row, (n,), of which `numbers` says which they are."""
    found = np.full(n, -np.inf)
    np.logaddexp.at(found, numbers, logs)
    return found

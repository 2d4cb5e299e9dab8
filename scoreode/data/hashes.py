"""Hashes of rows, by which equal rows are known."""

import numpy as np


def hash_rows(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of every row (n, d) in float64: equal for equal rows, and in practice different
    for others. −0 counts as 0, and missing values are equal."""
    rows = np.where(np.isnan(rows), np.nan, rows + 0.0)
    halves = np.ascontiguousarray(rows, np.float64).view(np.uint32)
    odd = np.random.default_rng(0).integers(0, 2**63, halves.shape[1], np.uint64) * 2 + 1
    keys = np.zeros(len(halves), np.uint64)
    for column, factor in zip(halves.T, odd, strict=True):
        keys += column * factor
    return keys

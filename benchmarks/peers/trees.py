"""Unmasking trees (McCarter 2024): boosted trees draw each column given any others.

As published: trees of depth 4 over bins of every column, each split a boosted classifier. The
package trains on `duplicate_K` copies of every row, masked in random orders, by default 50; here as
many as the seconds allow. Its log-density of a row in a random order of columns is exact; that of
their mixture, which is what it draws from, is the log-mean-exp over orders. Here of eight, the same
for all rows.

Beyond the training rows the package gives the density of the outermost bin, without end, so that
all mass is more than 1. It draws no such rows; their density is taken to be 0, and the law of
`peers.tails` is mixed in. `outside` counts them. Inside, gaps between bins, without
training rows, have the density of a bin, too: over a column it integrates to 1.003 for 6000 rows.
"""

import time
from typing import Any

import numpy as np
from kditransform import KDITransformer
from scipy.special import logsumexp
from sklearn.utils.validation import validate_data
from utrees import UnmaskingTrees
from utrees.kdi_quantizer import KDIQuantizer

from peers import Array, Fit
from peers.tails import with_tail

ROWS = 1000  # scored at most
ORDERS = 8
TRIAL = 8  # one in so many rows, to learn how long training takes
MOST = 50  # copies


def _validate_data(self: Any, x: Array, *, force_all_finite: bool = True, **how: Any) -> Array:
    return validate_data(self, x, ensure_all_finite=force_all_finite, **how)


# scikit-learn 1.7 removed this method, which both inherited and still call.
KDIQuantizer._validate_data = KDITransformer._validate_data = _validate_data


def unmasking_trees(x_train: Array, x_val: Array, seconds: float, seed: int) -> Fit:
    """Uses the validation rows for training: the package validates nothing."""
    start = time.perf_counter()
    x = np.concatenate([x_train, x_val])
    grow(x[::TRIAL], 1, seed)
    trial = time.perf_counter() - start
    copies = int(np.clip((seconds - trial) / (trial * TRIAL), 1, MOST))
    trees = grow(x, copies, seed)
    info = {"seconds": time.perf_counter() - start, "copies": copies, "rows": len(x)}
    low, high = x.min(0), x.max(0)

    def log_prob(test: Array) -> Array:
        scored = test[:ROWS]
        outside = np.any((scored < low) | (scored > high), axis=1)
        info["outside"] = int(np.sum(outside))
        found = mixture_of_orders(trees, scored, np.random.default_rng(seed))
        found = with_tail(np.where(outside, -np.inf, found), scored)
        return np.concatenate([found, np.full(len(test) - len(scored), np.nan)])

    return Fit(log_prob, info)


def grow(x: Array, copies: int, seed: int) -> UnmaskingTrees:
    return UnmaskingTrees(duplicate_K=copies, random_state=seed).fit(x)


def mixture_of_orders(trees: UnmaskingTrees, x: Array, rng: np.random.Generator) -> Array:
    """The log-mean-exp over orders of what the trees say of each column given those before it."""
    found = []
    for _ in range(ORDERS):
        order = rng.permutation(x.shape[1])
        known, total = np.full(x.shape, np.nan, np.float32), np.zeros(len(x))
        for column in order:
            total += trees.trees_[column].score_samples(known, x[:, column])
            known[:, column] = x[:, column]
        found.append(total)
    return logsumexp(found, axis=0) - np.log(ORDERS)

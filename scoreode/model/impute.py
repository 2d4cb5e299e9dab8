r"""Draws of what is missing, given what is there.

With k the categories, x_B the numbers that are there and x_A those that are not,

    P(k | x_B) ∝ P(k) p(x_B | k)    over all k that agree with what is known,
    x_A ~ p(x_A | x_B, k).

P is the law of complete categories, and p that of values whichever the others are: what is missing
is taken to be like what is there, given the rest of its row (missing at random, Rubin 1976).
"""

import numpy as np

from scoreode.model.fitted import Fitted

Rows = tuple[np.ndarray, np.ndarray | None]


def impute(fitted: Fitted, x: np.ndarray, c: np.ndarray | None, n: int = 1, seed: int = 0) -> Rows:
    """n draws of every row that lacks something, x (rows · n, d) and c, one row after another.

    **Arguments:** `x`, NaN where there is no value; `c`, whose categories may be unknown.

    **Raises:** `InputError` for too many combinations of unknown categories.

    **Cost** of a row: a log-density for every combination of unknown categories, and n draws.
    """
    rng = np.random.default_rng(seed)
    repeated = np.repeat(np.arange(len(x)), n)
    c = _categories(fitted, x, c, repeated, rng)
    x = x[repeated]
    lacking = np.flatnonzero(np.isnan(x).any(1))
    if not len(lacking):
        return x, c
    there = x[lacking]
    noise = fitted.dequantisation
    given = there if noise is None else noise.dequantise(there, seed)
    coded = fitted.coded_given(None if c is None else c[lacking], given)
    drawn = fitted.as_data(fitted.whole.draws(lacking, x.shape[1], seed, c=coded))
    x[lacking] = np.where(np.isnan(there), drawn, there)
    return x, c


def _categories(
    fitted: Fitted,
    x: np.ndarray,
    c: np.ndarray | None,
    repeated: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """c of the rows `repeated`, with draws of P(k | x_B) where categories are unknown."""
    c = fitted.without_gaps(c)
    if c is None or not fitted.unknown(c).any():
        return None if c is None else c[repeated]
    unknown = np.asarray(fitted.unknown(c).any(1))
    rows = np.flatnonzero(unknown)
    numbers, complete = fitted.completions(c[rows])
    record = fitted.log_likelihood(x[rows][numbers], c=complete, pooled=True)
    nats = np.asarray(record.nats)
    # Of every row the completion with the largest log-mass plus Gumbel noise is a draw.
    found, n = c[repeated], len(repeated) // len(x)
    best = np.stack([_of_largest(nats + rng.gumbel(size=len(nats)), numbers) for _ in range(n)])
    found[unknown[repeated]] = complete[best.T.ravel()]
    return found


def _of_largest(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Where the largest value of every row is, by the numbers of the rows in order."""
    order = np.lexsort((values, numbers))
    return order[np.append(np.flatnonzero(np.diff(numbers[order])), len(order) - 1)]

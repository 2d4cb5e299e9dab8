r"""Gaussian mixtures whose components are classes of rows, with categories of their own.

    p(k, z) = Σ_j π_j Π_c θ_jc(k_c) N(z; m_j, Σ_j)

is fitted by EM to rows of which coordinates may be hidden (Ghahramani and Jordan 1994), and gives
p(z | k) with the weights P(j | k). Without categories it is the usual mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp, softmax
from sklearn.cluster import KMeans

from scoreode.model.defaults import FEW
from scoreode.model.simple.density import Conditions, SimpleDensity
from scoreode.model.simple.gates import groups_of, linear
from scoreode.model.simple.observed import Observed
from scoreode.model.standardise import Chain

_COMPONENTS, _OF_MANY = (1, 2, 3, 4, 6, 8, 12, 16), (1, 4, 8, 16, 32)
_ROWS_PER_COMPONENT = 5  # fewer, and covariances are hardly known
_RIDGE = 1e-3  # of variances in standardised coordinates
_FOLDS, _LOSSES = 5, 2
_MOST = 20_000  # rows: more are not used
_STEPS = 100  # of EM
_GAIN, _GAIN_OF_ONE = 1e-3, 1e-6  # nats a row that a step must gain, and of one class
_PRIOR = 1.0  # rows of the frequencies of all, in the frequencies of every class
_HALF = 0.5  # a row of every level: Krichevsky and Trofimov 1981
Rows = Float[np.ndarray, "n d"]
Shares = Float[np.ndarray, "n k"]


@dataclass(frozen=True)
class Table:
    """Rows in coordinates, and the groups of their categories (n, m), of so many `levels` each."""

    rows: Observed
    groups: Int[np.ndarray, "n m"]
    levels: tuple[int, ...] = ()

    def take(self, rows: np.ndarray) -> "Table":
        """Only these rows."""
        return Table(self.rows.take(rows), self.groups[rows], self.levels)

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class Classes:
    """log π (k,), m (k, d), Σ (k, d, d), and log θ of every category (k, levels)."""

    log_weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    covariances: Float[np.ndarray, "k d d"]
    levels: tuple[Float[np.ndarray, "k _"], ...]

    @classmethod
    def fit(cls, table: Table, k: int) -> Self:
        """k classes of the greatest likelihood near those that k-means begins with."""
        there = table.rows.known
        mean = np.sum(table.rows.z, 0) / np.sum(there, 0)
        spread = np.sum(np.where(there, table.rows.z - mean, 0.0) ** 2, 0) / np.sum(there, 0)
        every, one = (
            np.ones((len(table), 1)),
            cls(np.zeros(1), mean[None], np.diag(spread)[None], ()),
        )
        start = one._step(table, every) if there.all() else one._run(table, every)
        if k == 1:
            return start
        filled = table.rows.given(start.means[0], start.covariances[0]).filled
        labels = KMeans(k, n_init="auto", random_state=0).fit_predict(filled)
        shares = np.eye(k)[labels]
        whole = Table(Observed.of(filled, np.ones_like(there)), table.groups, table.levels)
        first = cls(
            np.zeros(k), np.zeros((k, mean.size)), np.tile(np.eye(mean.size), (k, 1, 1)), ()
        )
        return first._step(whole, shares)._run(table)

    def _run(self, table: Table, shares: Shares | None = None) -> Self:
        """EM until the likelihood hardly grows; with `shares`, of these classes of rows."""
        classes = self if shares is None else self._step(table, shares)
        before = -np.inf
        for _ in range(_STEPS):
            logs = classes.log_joint(table)
            nats = float(np.mean(np.asarray(logsumexp(logs, axis=1))))
            if nats - before < (_GAIN if len(classes.means) > 1 else _GAIN_OF_ONE):
                break
            before, classes = nats, classes._step(table, softmax(logs, axis=1))
        return classes

    def _step(self, table: Table, shares: Shares) -> Self:
        """The M step, for the shares of the classes in every row."""
        rows, d = table.rows, table.rows.z.shape[1]
        counts = shares.sum(0) + 10 * np.finfo(float).eps
        means, covariances = [], []
        for mean, cov, r, n in zip(self.means, self.covariances, shares.T, counts, strict=True):
            given = rows.given(mean, cov)
            means.append(r @ given.filled / n)
            off = given.filled - means[-1]
            total = (r * off.T) @ off + rows.unexplained(given, cov, r)
            covariances.append(total / n + _RIDGE * np.eye(d))
        levels = (
            _frequencies(shares, column, k)
            for column, k in zip(table.groups.T, table.levels, strict=True)
        )
        weights = np.log(counts / counts.sum())
        return type(self)(weights, np.stack(means), np.stack(covariances), tuple(levels))

    def log_priors(self, table: Table) -> Shares:
        """log π_j Π_c θ_jc(k_c)."""
        found = np.tile(self.log_weights, (len(table), 1))
        for logs, column in zip(self.levels, table.groups.T, strict=True):
            found += logs.T[column]
        return found

    def log_joint(self, table: Table) -> Shares:
        """log π_j Π_c θ_jc(k_c) N(z; m_j, Σ_j), of what is there of z."""
        laws = zip(self.means, self.covariances, strict=True)
        return self.log_priors(table) + np.stack([table.rows.log_density(*law) for law in laws], 1)

    def log_density(self, table: Table) -> Float[np.ndarray, " n"]:
        """log p(z | k) of what is there."""
        joint, priors = self.log_joint(table), self.log_priors(table)
        return np.asarray(logsumexp(joint, axis=1)) - np.asarray(logsumexp(priors, axis=1))


def fit_mixture(
    bijection: Chain,
    x: Rows,
    k: int | None = None,
    c: Conditions = None,
    sizes: Sequence[int] = (),
) -> SimpleDensity:
    """The Gaussian mixture of k components, by default as many as explain left-out rows best.

    The numbers 1, 2, 3, 4, 6, 8, 12 and 16 are compared by the log-density of the rows that each of
    five parts holds, fitted to the others, until two in a row are no better; of 5000 rows or more
    1, 4, 8, 16 and 32, by one part's. At most 20,000 rows are used, the first.

    **Arguments:** `x`, NaN where a value is missing; `c`, conditions, which begin with indicators
    of categories, and `sizes`, how many each category has.
    """
    x, c = x[:_MOST], None if c is None else c[:_MOST]
    z = np.asarray(bijection.forward(x)[0])
    groups = np.empty((len(x), 0), int) if c is None or not sizes else groups_of(c, sizes)
    levels = tuple(size + 1 for size in sizes)
    table = Table(Observed.of(z, ~np.isnan(x)), groups, levels)
    best = Classes.fit(table, _best_number(table) if k is None else k)
    weights, gate = linear(best.log_weights, best.levels)
    A = np.linalg.inv(np.linalg.cholesky(best.covariances))
    return SimpleDensity(bijection, weights, best.means, A, np.array(np.inf), gate)


def _best_number(table: Table) -> int:
    """Of components, by five-fold cross-validation, or one fold of many rows."""
    order = np.random.default_rng(0).permutation(len(table))
    folds, numbers = np.array_split(order, _FOLDS), _COMPONENTS
    if len(table) >= FEW:  # one fold tells enough
        folds, numbers = folds[:1], _OF_MANY
    most = len(table) * (_FOLDS - 1) // _FOLDS // _ROWS_PER_COMPONENT

    best, greatest, losses = 1, -np.inf, 0
    for k in numbers:
        if k > max(most, 1) or losses == _LOSSES:
            break
        pairs = ((np.setdiff1d(order, fold), fold) for fold in folds)
        nats = sum(
            float(np.sum(Classes.fit(table.take(a), k).log_density(table.take(b))))
            for a, b in pairs
        )
        if nats > greatest:
            best, greatest, losses = k, nats, 0
        else:
            losses += 1
    return best


def _frequencies(
    shares: Shares, column: Int[np.ndarray, " n"], n_levels: int
) -> Float[np.ndarray, "k levels"]:
    """log θ of the levels in every class, smoothed towards those of all rows."""
    of_all = (np.bincount(column, minlength=n_levels) + _HALF) / (len(column) + _HALF * n_levels)
    counts = np.stack([np.bincount(column, r, n_levels) for r in shares.T])
    return np.log((counts + _PRIOR * of_all) / (counts.sum(1, keepdims=True) + _PRIOR))

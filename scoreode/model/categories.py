r"""The law of a table's categories: exact masses, which sum to 1 over all combinations of levels.

A parametric law Q is one of two, by validation: independent columns, or a chain of logistic
regressions,

    Q(k | g) = Π_j Q_j(k_j | k_1 … k_{j−1}, g),

with g what the table is conditioned on. The counts n_k of combinations in n training rows are
smoothed towards Q by κ rows,

    P(k) = (n_k + κ Q(k)) / (n + κ),

where κ is chosen by validation, too; for κ = ∞, and always with g, P = Q.

Of a table with missing values, k has more columns: for every column of numbers with gaps, whether
its value is missing. A category without a value has the level None. Beside this law stands that of
complete categories, fitted by EM (Dempster, Laird and Rubin 1977) as if what is missing were no
different from what is there.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import log_softmax

from scoreode.data import Conditions, Dataset
from scoreode.data.kinds import Category
from scoreode.model.completions import completions, sum_by_row

_KAPPAS = (np.inf, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
_HALF = 0.5  # a row of every level: Krichevsky and Trofimov 1981
_MOST_ROWS = 2**16  # that a regression is fitted to
_MOST_LEVELS = 500  # of all columns: with more, a regression takes minutes
_COMPLETE = "complete."  # before the names of the arrays of that law
_EM_STEPS = 10
_MOST_COMPLETIONS = 1000  # of a row, in EM
_PARTS = 5  # of training rows without validation rows, one of which decides


@dataclass(frozen=True)
class Stage:
    """Q_j: (1 − ε) softmax(b + Φ W) + ε m, for features Φ of the columns before and of g.

    `m` are the smoothed frequencies of the levels. Without W and b, Q_j = m.
    """

    m: np.ndarray
    b: np.ndarray
    W: np.ndarray
    epsilon: float

    def masses(self, features: np.ndarray) -> np.ndarray:
        """Q_j of every level, (n, levels), for features (n, f)."""
        if self.epsilon == 1:
            return np.broadcast_to(self.m, (len(features), len(self.m)))
        # A product row by row: a row has the same mass in any batch.
        logits = self.b + np.einsum("nf,fl->nl", features, self.W, optimize=False)
        return (1 - self.epsilon) * np.exp(log_softmax(logits, axis=1)) + self.epsilon * self.m


@dataclass(frozen=True)
class Law:
    """P of the codes k (n, m) of m categories, given g (n, f) or without.

    `combinations` (r, m) are those in training and `counts` (r,) how often they occur there, and
    `kappa` is κ. `mean` and `scale` standardise g. `complete` is the law of categories without
    gaps, of a table that may lack values.
    """

    stages: tuple[Stage, ...]
    combinations: np.ndarray
    counts: np.ndarray
    kappa: float
    mean: np.ndarray
    scale: np.ndarray
    complete: "Law | None" = None

    def log_mass(self, codes: np.ndarray, g: np.ndarray | None = None) -> np.ndarray:
        """log P of every row in nats, shape (n,). No network is evaluated."""
        log_q = np.zeros(len(codes))
        features = self._features_of(g, len(codes))
        for stage, column in zip(self.stages, codes.astype(int).T, strict=True):
            masses = stage.masses(features)
            log_q += np.log(np.take_along_axis(masses, column[:, None], 1)[:, 0])
            features = np.concatenate([features, _one_hot(column, len(stage.m))], axis=1)
        if np.isinf(self.kappa):
            return log_q
        counts, n = self._counts_of(codes), self.counts.sum()
        return np.log(counts + self.kappa * np.exp(log_q)) - np.log(n + self.kappa)

    def sample(self, n: int, seed: int, g: np.ndarray | None = None) -> np.ndarray:
        """n exact draws of the codes, shape (n, m); the first do not depend on n."""
        u = np.random.default_rng(seed).random((n, 2 + len(self.stages)))
        features, drawn = self._features_of(g, n), []
        for stage, at in zip(self.stages, u.T[2:], strict=True):
            drawn.append(_inverse(stage.masses(features), at))
            features = np.concatenate([features, _one_hot(drawn[-1], len(stage.m))], axis=1)
        codes = np.stack(drawn, axis=1)
        if not np.isinf(self.kappa):
            total = self.counts.sum()
            known = _inverse(np.broadcast_to(self.counts / total, (n, len(self.counts))), u[:, 1])
            repeated = u[:, 0] < total / (total + self.kappa)
            codes = np.where(repeated[:, None], self.combinations[known], codes)
        return codes.astype(np.float64)

    @property
    def says(self) -> str:
        """Which law this is, for people."""
        chain = any(stage.epsilon < 1 for stage in self.stages)
        q = "a chain of logistic regressions" if chain else "independent columns"
        if np.isinf(self.kappa):
            return q
        return f"counts of combinations, smoothed by {self.kappa:g} rows of {q}"

    def arrays(self) -> dict[str, np.ndarray]:
        """What it consists of, by name."""
        found = {name: getattr(self, name) for name in ("combinations", "counts", "mean", "scale")}
        for j, stage in enumerate(self.stages):
            found |= {f"{name}{j}": np.asarray(value) for name, value in vars(stage).items()}
        if self.complete is not None:
            found |= {f"{_COMPLETE}{name}": a for name, a in self.complete.arrays().items()}
        return found | {"kappa": np.asarray(self.kappa)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The law of which `arrays` wrote these. **Raises:** `KeyError` if some are missing."""
        stages = tuple(
            Stage(arrays[f"m{j}"], arrays[f"b{j}"], arrays[f"W{j}"], arrays[f"epsilon{j}"].item())
            for j in range(arrays["combinations"].shape[1])
        )
        counts = arrays["combinations"], arrays["counts"], arrays["kappa"].item()
        rest = {k.removeprefix(_COMPLETE): a for k, a in arrays.items() if k.startswith(_COMPLETE)}
        complete = cls.from_arrays(rest) if rest else None
        return cls(stages, *counts, arrays["mean"], arrays["scale"], complete)

    def _features_of(self, g: np.ndarray | None, n: int) -> np.ndarray:
        return np.empty((n, 0)) if g is None else (g - self.mean) / self.scale

    def _counts_of(self, codes: np.ndarray) -> np.ndarray:
        """How often each combination occurs in training."""
        numbers = dict(zip(_keys(self.combinations), self.counts, strict=True))
        return np.array([numbers.get(key, 0.0) for key in _keys(codes)])


def of_data(data: Dataset) -> Law | None:
    """The law of the categories in training, and of which values are missing, given the conditions;
    None where there is neither.

    Validation rows, or without them one part in five of the others, decide which law and how much
    it is smoothed.

    **Cost:** a second or two: twice as many logistic regressions as there are categories.
    """
    if not data.categories and not data.gaps:
        return None
    kinds = [kind for name in data.categories if isinstance(kind := data.kinds[name], Category)]
    levels = [len(kind.levels) for kind in kinds] + [2] * len(data.gaps)
    train, held_out = (_rows_of(data, part) for part in ("train", "validation"))
    law = _decide(levels, train, held_out)
    if not kinds or not (data.has_roles or any(kind.has_gaps for kind in kinds)):
        return law
    values = [kind.n_values for kind in kinds]
    return replace(law, complete=_fit_complete(values, train, held_out))


def _rows_of(data: Dataset, part: str) -> "Rows":
    """The codes of a part, last whether values are missing, what each row is given, and weights."""
    weights = getattr(data, f"{part}_weights")
    codes, given = codes_of(data, part), _given(data, len(data.categories))
    g = None if given is None else getattr(given, part)
    return codes, g, np.ones(len(codes)) if weights is None else weights


def codes_of(data: Dataset, part: str) -> np.ndarray:
    """The levels of the categories of a part, and then whether the values of `gaps` are missing."""
    x, m = getattr(data, part), len(data.categories)
    codes = np.empty((len(x), 0)) if data.conditions is None else getattr(data.conditions, part)
    lacking = [list(data.columns).index(name) for name in data.gaps]
    if not lacking:
        return codes[:, :m]
    return np.concatenate([codes[:, :m], np.isnan(x[:, lacking])], axis=1)


def _decide(
    levels: Sequence[int],
    train: "Rows",
    held_out: "Rows",
    complete: Callable[["Rows"], "Rows"] = lambda rows: rows,
) -> Law:
    """The law of rows, each as what makes them `complete` has them."""
    if len(held_out[0]):
        return choose(levels, complete(train), complete(held_out))
    decides = np.arange(len(train[0])) % _PARTS == 0
    parts = (complete(_take(train, chosen)) for chosen in (~decides, decides))
    found = choose(levels, *parts)
    chain = any(stage.epsilon < 1 for stage in found.stages)
    return replace(fit(levels, *complete(train), chain=chain), kappa=found.kappa)


def of_validation(law: Law | None, data: Dataset) -> np.ndarray | None:
    """log P of the categories of the validation rows; None where there are none."""
    if law is None:
        return None
    g = _given(data, len(data.categories))
    return law.log_mass(codes_of(data, "validation"), None if g is None else g.validation)


def _fit_complete(levels: Sequence[int], train: "Rows", held_out: "Rows") -> Law:
    """The law of complete categories: by EM, what is missing is completed in proportion to it."""
    train, held_out = (_without_gaps(levels, rows) for rows in (train, held_out))
    law, kappa = None, 1.0 if train[1] is None else np.inf
    for _ in range(_EM_STEPS if np.isnan(train[0]).any() else 1):
        law = replace(fit(levels, *_completed(levels, train, law), chain=False), kappa=kappa)
    return _decide(levels, train, held_out, lambda rows: _completed(levels, rows, law))


def _without_gaps(levels: Sequence[int], rows: "Rows") -> "Rows":
    """The codes of the categories, NaN where there is no value."""
    codes, g, weights = rows
    codes = codes[:, : len(levels)]
    return np.where(codes < np.array(levels), codes, np.nan), g, weights


def _completed(levels: Sequence[int], rows: "Rows", law: Law | None) -> "Rows":
    """Every row with all its completions, its weight in proportion to the law (None: equal)."""
    few = np.prod(np.where(np.isnan(rows[0]), np.array(levels), 1.0), axis=1) <= _MOST_COMPLETIONS
    codes, g, weights = _take(rows, few)
    if g is None:  # rows that lack the same are one row
        codes, where = np.unique(codes, axis=0, return_inverse=True)
        weights = np.bincount(where.ravel(), weights, len(codes))
    numbers, complete = completions(codes, levels)
    g = None if g is None else g[numbers]
    logs = np.zeros(len(complete)) if law is None else law.log_mass(complete, g)
    share = np.exp(logs - sum_by_row(logs, numbers, len(codes))[numbers])
    return complete, g, weights[numbers] * share


Rows = tuple[np.ndarray, np.ndarray | None, np.ndarray]
"""Codes (n, m), what each row is conditioned on or None, and weights (n,)."""


def choose(levels: Sequence[int], train: Rows, held_out: Rows) -> Law:
    """The law fitted to the rows `train` under which the rows `held_out` have the largest mass."""
    codes, g, weights = held_out
    found = [fit(levels, *train, chain=False)]
    related = len(levels) > 1 or g is not None
    if related and sum(levels) <= _MOST_LEVELS:
        found.append(fit(levels, *train, chain=True))
    kappas = _KAPPAS if g is None and len(levels) > 1 else (np.inf,)
    laws = [replace(law, kappa=kappa) for kappa in kappas for law in found]
    return max(laws, key=lambda law: float(np.average(law.log_mass(codes, g), weights=weights)))


def fit(
    levels: Sequence[int],
    codes: np.ndarray,
    g: np.ndarray | None,
    weights: np.ndarray,
    *,
    chain: bool,
) -> Law:
    """Q of independent columns, or of a `chain`, with the counts of combinations, and κ = ∞."""
    weights = weights * (len(weights) / weights.sum())
    mean, scale = np.empty(0), np.empty(0)
    features = np.empty((len(codes), 0))
    if g is not None:
        mean, spread = g.mean(0), g.std(0)
        scale = np.where(spread > 0, spread, 1.0)
        features = (g - mean) / scale
    combinations, where = np.unique(codes.astype(int), axis=0, return_inverse=True)
    counts = np.bincount(where.ravel(), weights)
    if g is None:  # rows of one combination are one row
        codes, weights, features = combinations, counts, features[: len(counts)]
    stages = []
    for column, k in zip(codes.astype(int).T, levels, strict=True):
        stages.append(_stage(features, column, k, weights, chain))
        features = np.concatenate([features, _one_hot(column, k)], axis=1)
    return Law(tuple(stages), combinations, counts, np.inf, mean, scale)


def _stage(
    features: np.ndarray, column: np.ndarray, k: int, weights: np.ndarray, chain: bool
) -> Stage:
    counts = np.bincount(column, weights, minlength=k)
    n = counts.sum()
    m = (counts + _HALF) / (n + _HALF * k)
    present = np.unique(column)
    if not chain or features.shape[1] == 0 or len(present) < 2:
        return Stage(m, np.zeros(0), np.zeros((0, 0)), 1.0)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    some = slice(_MOST_ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges what comes out
        model = LogisticRegression(max_iter=300)
        model.fit(features[some], column[some], sample_weight=weights[some])
    b, W = np.full(k, -np.inf), np.zeros((features.shape[1], k))
    if len(present) == 2:  # one logit, of the second
        b[present], W[:, present[1]] = [0.0, *np.ravel(model.intercept_)], np.ravel(model.coef_)
    else:
        b[present], W[:, present] = model.intercept_, model.coef_.T
    return Stage(m, b, W, _HALF * k / (n + _HALF * k))


def _one_hot(column: np.ndarray, k: int) -> np.ndarray:
    """Indicators of all levels but the first, (n, k − 1)."""
    return (column[:, None] == np.arange(1, k)).astype(np.float64)


def _inverse(masses: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The level of every row at which the distribution reaches u."""
    below = np.cumsum(masses, axis=1)
    return np.argmax(u[:, None] * below[:, -1:] < below, axis=1)


def _keys(codes: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(codes, np.int32)]


def _take(rows: Rows, chosen: np.ndarray) -> Rows:
    codes, g, weights = rows
    return codes[chosen], None if g is None else g[chosen], weights[chosen]


def _given(data: Dataset, m: int) -> Conditions | None:
    """The conditions that follow m categories, as numbers; None where there are none."""
    given = data.conditions
    if given is None or len(given.columns) == m:
        return None
    parts = {p: getattr(given, p)[:, m:] for p in ("train", "validation", "test")}
    rest = Conditions(**parts, columns=given.columns[m:])
    plain = {"categories": (), "gaps": (), "subsets": False}
    return replace(data, conditions=rest, **plain).coded.conditions

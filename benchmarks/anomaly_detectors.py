"""Detectors of anomalies that are no diffusions; none of them needs JAX.

Larger is more anomalous. `anomalies.py` compares them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

WIDTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)  # of kernels, in standard deviations
Rows = np.ndarray
Scores = dict[str, np.ndarray]


def detectors(seed: int) -> dict[str, Callable[[Rows, Rows], np.ndarray]]:
    """Every other detector: a function of training rows and rows to rank, standardised."""

    def isolation_forest(train: Rows, test: Rows) -> np.ndarray:
        return -IsolationForest(random_state=seed).fit(train).score_samples(test)

    def lof(train: Rows, test: Rows) -> np.ndarray:
        return -LocalOutlierFactor(novelty=True).fit(train).score_samples(test)

    def distances(train: Rows, test: Rows) -> np.ndarray:
        near = NearestNeighbors(n_neighbors=min(5, len(train))).fit(train)
        return near.kneighbors(test)[0]

    return {
        "isolation forest": isolation_forest,
        "LOF": lof,
        "5th neighbour": lambda train, test: distances(train, test)[:, -1],
        "5 neighbours": lambda train, test: distances(train, test).mean(1),
        "Gaussian": lambda train, test: EmpiricalCovariance().fit(train).mahalanobis(test),
        "mixture (BIC)": lambda train, test: mixture(train, seed, held_out=False)(test),
        "mixture (validation)": lambda train, test: mixture(train, seed, held_out=True)(test),
        "kernels": kernels,
        **{f"noise {h}": partial(smooth, h=h) for h in WIDTHS},
        **pyod(seed),
    }


def mixture(train: Rows, seed: int, held_out: bool) -> Callable[[Rows], np.ndarray]:
    """−log p of a Gaussian mixture of 1 to 16 components, as many as the criterion says."""

    def fit(k: int, rows: Rows) -> Any:
        return GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(rows)

    a, b = parts(train)
    numbers = [k for k in (1, 2, 3, 4, 6, 8, 12, 16) if k == 1 or 5 * k <= len(a)]
    if held_out:
        best = fit(max(numbers, key=lambda k: fit(k, a).score(b)), train)
    else:
        best = min((fit(k, train) for k in numbers), key=lambda model: model.bic(train))
    return lambda test: -best.score_samples(test)


def parts(train: Rows) -> tuple[Rows, Rows]:
    """Four fifths of the rows, and the last fifth."""
    order = np.random.default_rng(0).permutation(len(train))
    return train[order[len(train) // 5 :]], train[order[: len(train) // 5]]


def kernels(train: Rows, test: Rows) -> np.ndarray:
    """−log p of normal kernels, of the bandwidth that explains a fifth of the rows best."""

    def nats(h: float, squares: np.ndarray, d: int) -> np.ndarray:
        return np.asarray(logsumexp(-squares / (2 * h * h), axis=1) - d * np.log(h))

    a, b = parts(train)
    squares, d = cdist(b[:512], a, "sqeuclidean"), train.shape[1]
    best = max(np.geomspace(0.05, 2, 16).tolist(), key=lambda h: np.mean(nats(h, squares, d)))
    return -nats(best, cdist(test, train, "sqeuclidean"), d)


def pyod(seed: int) -> dict[str, Callable[[Rows, Rows], np.ndarray]]:
    """Detectors that scikit-learn lacks, as PyOD has them."""
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.hbos import HBOS
    from pyod.models.inne import INNE
    from pyod.models.mcd import MCD
    from pyod.models.ocsvm import OCSVM
    from pyod.models.pca import PCA

    made: dict[str, Callable[[], Any]] = {
        "ECOD": ECOD,
        "COPOD": COPOD,
        "HBOS": HBOS,
        "INNE": lambda: INNE(random_state=seed),
        "MCD": lambda: MCD(random_state=seed),
        "one-class SVM": OCSVM,
        "PCA": lambda: PCA(random_state=seed),
    }

    def score(make: Callable[[], Any]) -> Callable[[Rows, Rows], np.ndarray]:
        return lambda train, test: make().fit(train).decision_function(test)

    return {name: score(make) for name, make in made.items()}


def smooth(rows: Rows, x: Rows, h: float) -> np.ndarray:
    """−log of a kernel estimate whose bandwidth is h standard deviations."""
    std = rows.std(0)
    return -np.asarray(
        logsumexp(-cdist(x / std, rows / std, "sqeuclidean") / (2 * h * h), axis=1)
        - np.log(len(rows))
    )

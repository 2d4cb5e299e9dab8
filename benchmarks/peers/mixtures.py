"""A mixture of Gaussians, without a time limit."""

import time

from sklearn.mixture import GaussianMixture

from peers import Array, Fit

COMPONENTS = 30


def mixture(x_train: Array, x_val: Array, seconds: float, seed: int) -> Fit:  # noqa: ARG001
    """Full covariances, until EM stops."""
    start = time.perf_counter()
    model = GaussianMixture(COMPONENTS, covariance_type="full", random_state=seed).fit(x_train)
    info = {
        "seconds": time.perf_counter() - start,
        "steps": int(model.n_iter_),
        "converged": bool(model.converged_),
        "components": COMPONENTS,
    }
    return Fit(model.score_samples, info)

"""A vine copula by pyvinecopulib (Nagler and Vatter): p(x) = c(F_1(x_1), …, F_d(x_d)) ∏ f_j(x_j).

Pair copulas are local-likelihood estimates of order 2 (TLL); the structure is the package's choice
by Kendall's tau. Margins are its local-likelihood kernel estimates, `Kde1d`; each is mixed
with the law of `peers.tails`, so that no row beyond the training rows has density 0.
"""

import time

import numpy as np
import pyvinecopulib as pv

from peers import Array, Fit
from peers.tails import LAW, WEIGHT

MULTIPLIERS = (0.25, 0.5, 1.0)  # of the copulas' bandwidths; validation rows decide
INSIDE = 1e-10  # how near copula values come to 0 and 1


class Margin:
    """Kernels and a tail, with a density and a distribution function."""

    def __init__(self, x: Array):
        self.kernels = pv.core.Kde1d()
        self.kernels.fit(np.ascontiguousarray(x))

    def log_density(self, x: Array) -> Array:
        x = np.ascontiguousarray(x)
        return np.log((1 - WEIGHT) * self.kernels.pdf(x) + WEIGHT * LAW.pdf(x))

    def distribution(self, x: Array) -> Array:
        x = np.ascontiguousarray(x)
        u = (1 - WEIGHT) * self.kernels.cdf(x) + WEIGHT * LAW.cdf(x)
        return np.clip(u, INSIDE, 1 - INSIDE)


def vine_copula(x_train: Array, x_val: Array, seconds: float, seed: int) -> Fit:  # noqa: ARG001
    """Without a time limit; nothing in it is drawn at random."""
    start = time.perf_counter()
    margins = [Margin(column) for column in x_train.T]

    def uniform(x: Array) -> Array:
        u = [margin.distribution(column) for margin, column in zip(margins, x.T, strict=True)]
        return np.asfortranarray(np.transpose(u))

    def density_of_margins(x: Array) -> Array:
        return np.sum([m.log_density(c) for m, c in zip(margins, x.T, strict=True)], axis=0)

    def copula(multiplier: float) -> pv.Vinecop:
        controls = pv.FitControlsVinecop(
            family_set=[pv.BicopFamily.tll],
            nonparametric_method="quadratic",
            nonparametric_mult=multiplier,
        )
        return pv.Vinecop.from_data(uniform(x_train), controls)

    def log_prob(vine: pv.Vinecop, x: Array) -> Array:
        return np.log(vine.pdf(uniform(x))) + density_of_margins(x)

    vines = {multiplier: copula(multiplier) for multiplier in MULTIPLIERS}
    nlls = {multiplier: -float(log_prob(v, x_val).mean()) for multiplier, v in vines.items()}
    best = min(nlls, key=lambda multiplier: nlls[multiplier])
    info = {
        "seconds": time.perf_counter() - start,
        "multiplier": best,
        "validation_nll_of_multipliers": {str(key): nll for key, nll in nlls.items()},
    }
    return Fit(lambda x: log_prob(vines[best], x), info)

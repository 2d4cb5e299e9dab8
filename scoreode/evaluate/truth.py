"""The closed form of a run's data, if they come from a known Gaussian mixture.

An affine standardisation maps a mixture to a mixture. So the truth is known in the coordinates of
the score model, and divergences between densities do not change.
"""

import jax.numpy as jnp
import numpy as np

from scoreode.data.sources import TOYS
from scoreode.data.toy import AbstractMixture
from scoreode.errors import InputError
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Scaling, Whitening
from scoreode.theory import MixtureOracle


def is_known(fitted: Fitted) -> bool:
    """Whether a closed form is known for the run's data."""
    return _mixture(fitted) is not None


def oracle_of(fitted: Fitted) -> MixtureOracle:
    """The marginals q_t of a run's data in standardised coordinates.

    **Raises:** `InputError` if the data are not a known mixture, or not affinely standardised.
    """
    toy = _mixture(fitted)
    if toy is None:
        raise InputError(f"{fitted.data.name}: no closed form is known for its densities")
    weights, means, covariances = toy.components()
    T = fitted.density.bijection.forward
    A = T(np.eye(toy.dim))[0] - T(np.zeros((1, toy.dim)))[0]  # T(x) = x A + b
    return MixtureOracle(
        fitted.density.score_model.process,
        jnp.asarray(weights),
        jnp.asarray(T(means)[0]),
        jnp.asarray(A.T @ covariances @ A),
    )


def _mixture(fitted: Fitted) -> AbstractMixture | None:
    toy = TOYS.get(fitted.data.name)
    affine = all(isinstance(part, (Scaling, Whitening)) for part in fitted.density.bijection.parts)
    return toy if affine and isinstance(toy, AbstractMixture) else None

"""A fitted density as a NumPyro distribution: a prior or a likelihood within a model.

numpyro.sample("x", Distribution(est))
"""

from typing import Any

from jaxtyping import Array
from numpyro.distributions import Distribution as AbstractDistribution
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from scoreode.adapters import distrax


class Distribution(AbstractDistribution):
    """p(x) of a fitted `ScoreODE`, over vectors of d values; see `distrax.Distribution`.

    **Raises:** `InputError` for a conditional model, and for discrete columns.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (NumPyro's declaration)
    support = constraints.real_vector  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    pytree_data_fields = ("_inner",)

    def __init__(self, estimator: Any, *, validate_args: bool | None = None):
        self._inner = distrax.Distribution(estimator)
        super().__init__(event_shape=self._inner.event_shape, validate_args=validate_args)

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> Array:  # noqa: ARG002 (of flows)
        """log p in nats of every vector of `value`, shape (..., d)."""
        return self._inner.log_prob(value)

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape (*sample_shape, d)."""
        assert key is not None  # None is for deterministic distributions
        return self._inner.sample(seed=key, sample_shape=sample_shape)

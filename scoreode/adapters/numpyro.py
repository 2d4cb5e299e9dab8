"""A fitted density as a NumPyro distribution: a prior or a likelihood within a model.

numpyro.sample("x", Distribution(est))
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array
from numpyro.distributions import Distribution as AbstractDistribution
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import Transform
from numpyro.distributions.util import validate_sample

from scoreode.adapters import distrax
from scoreode.model.standardise import Support


class Inside(constraints.Constraint):
    """Vectors inside a declared support."""

    event_dim = 1

    def __init__(self, bijection: Support):
        self.bijection = bijection

    def __call__(self, x: Any) -> Array:
        return jnp.isfinite(self.bijection.forward(jnp.asarray(x))[1])

    def feasible_like(self, prototype: Any) -> Array:
        return jnp.asarray(self.bijection.inverse(jnp.zeros_like(prototype)))

    def tree_flatten(self) -> Any:
        return (self.bijection,), (("bijection",), {})


class IntoSupport(Transform):
    """From ℝᵈ into a declared support."""

    def __init__(self, bijection: Support):
        self.bijection = bijection

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.real_vector

    @property
    def codomain(self) -> Inside:
        return Inside(self.bijection)

    def __call__(self, x: Any) -> Array:
        return jnp.asarray(self.bijection.inverse(jnp.asarray(x)))

    def _inverse(self, y: Any) -> Array:
        return jnp.asarray(self.bijection.forward(jnp.asarray(y))[0])

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> Array:  # noqa: ARG002
        return -jnp.asarray(self.bijection.forward(jnp.asarray(y))[1])

    def tree_flatten(self) -> Any:
        return (self.bijection,), (("bijection",), {})


@biject_to.register(Inside)
def _into(constraint: Inside) -> IntoSupport:
    return IntoSupport(constraint.bijection)


class Distribution(AbstractDistribution):
    """p(x) of a fitted `ScoreODE`, over vectors of d values; see `distrax.Distribution`.

    **Raises:** `InputError` for a conditional model, and for discrete columns.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (NumPyro's declaration)
    pytree_data_fields = ("_inner",)

    def __init__(self, estimator: Any, *, validate_args: bool | None = None):
        self._inner = distrax.Distribution(estimator)
        super().__init__(event_shape=self._inner.event_shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=1)  # pyright: ignore[reportArgumentType]
    def support(self) -> constraints.Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        """ℝᵈ, or the support that was declared."""
        bijection = self._inner.support
        return Inside(*bijection) if bijection else constraints.real_vector

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> Array:  # noqa: ARG002 (of flows)
        """log p in nats of every vector of `value`, shape (..., d)."""
        return self._inner.log_prob(value)

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape (*sample_shape, d)."""
        assert key is not None  # None is for deterministic distributions
        return self._inner.sample(seed=key, sample_shape=sample_shape)

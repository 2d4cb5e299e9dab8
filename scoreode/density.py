"""A trained model in the units of the data: standardisation, score, and the flow through both.

With z = T(x) the standardising bijection, log p(x) = log p_0(T(x)) + log |det ∂T/∂x|. T is
evaluated in float64 on the host, the flow in the model's own precision on the device.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from scoreode._typing import Scalar
from scoreode.flow import (
    AbstractSampler,
    GridLikelihood,
    Likelihood,
    LogLikelihood,
    ODESampler,
    Refined,
    map_rows,
    nll_bound,
    rows_at_once,
    tangents,
)
from scoreode.score import ScoreModel
from scoreode.standardise import Chain

Rows = Float[np.ndarray, "n d"]
Row = Float[Array, " d"]


class Density(eqx.Module):
    """p(x) of rows (n, d) in their own units."""

    bijection: Chain
    score_model: ScoreModel

    def standardised(self, x: Rows) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """z = T(x) in float32, and log |det ∂T/∂x| in float64."""
        z, log_det = self.bijection.forward(np.asarray(x, np.float64))
        return np.asarray(z, np.float32), np.asarray(log_det)

    def log_likelihood(
        self, x: Rows, seed: int = 0, how: Likelihood | GridLikelihood | Refined = Refined()
    ) -> LogLikelihood:
        """log p(x) of every row in nats, the standardisation's Jacobian included.

        **Arguments:** `seed` of the probes, used above 32 dimensions; `how`: grids refined to a
        tolerance, or one grid, or an adaptive solver, each with a probe.

        **Returns:** a `LogLikelihood` of NumPy arrays over rows.
        """
        z, log_det = self.standardised(x)
        process = self.score_model.process
        shared, d = (self.score_model, process, jr.key(seed)), x.shape[1]
        if isinstance(how, Refined):
            record = how(*shared, z)
        else:
            chunk = rows_at_once(d, tangents(how.probe, how.n_probes, d))
            record = map_rows(how, shared, (z,), chunk)
        return eqx.tree_at(lambda record: record.nats, record, record.nats + log_det)

    def nll_bound(self, x: Rows, seed: int = 0) -> Float[np.ndarray, " n"]:
        """An upper bound on −log p^SDE(x) of every row in nats; see `flow.nll_bound`."""
        z, log_det = self.standardised(x)
        shared = self.score_model, self.score_model.process
        keyed = jr.split(jr.key(seed), len(z)), z
        return map_rows(nll_bound, shared, keyed, rows_at_once(x.shape[1], 0)) - log_det

    def sample(self, n: int, d: int, seed: int = 0, how: AbstractSampler = ODESampler()) -> Rows:
        """n draws of x by this sampler, shape (n, d); the first k of n are the k of a smaller n."""
        # Folding in, unlike splitting, gives the i-th draw the same key whatever n is.
        keys = jax.vmap(lambda i: jr.fold_in(jr.key(seed), i))(jnp.arange(n))
        shared = self.score_model, self.score_model.process, (d,)
        z = map_rows(how, shared, (keys,), rows_at_once(d, 0))
        return np.asarray(self.bijection.inverse(z.astype(np.float64)))

    def score(self, x: Rows, t: float) -> Rows:
        """∇_x log q_t(x) as the network has it, in the units of x."""
        rows, chunk = (np.asarray(x, np.float32),), rows_at_once(x.shape[1], 0)
        return map_rows(_score, (self, self._time(t)), rows, chunk)

    def hessian_product(self, x: Rows, v: Rows, t: float) -> Rows:
        """∇²_x log q_t(x) v for every row, as the network has it, in the units of x."""
        rows = np.asarray(x, np.float32), np.asarray(v, np.float32)
        chunk = rows_at_once(x.shape[1], 1)
        return map_rows(_hessian_product, (self, self._time(t)), rows, chunk)

    def _time(self, t: float) -> Scalar:
        process = self.score_model.process
        return jnp.clip(jnp.asarray(t, jnp.float32), process.t_min, process.t_max)


def _score(density: Density, t: Scalar, x: Row) -> Row:
    """(∂T/∂x)ᵀ s_θ(T(x), t) + ∇ log |det ∂T/∂x|."""
    (z, log_det), pullback = jax.vjp(density.bijection.forward, x)
    return pullback((density.score_model(jnp.asarray(z), t), jnp.ones_like(log_det)))[0]


def _hessian_product(density: Density, t: Scalar, x: Row, v: Row) -> Row:
    return jax.jvp(lambda x: _score(density, t, x), (x,), (v,))[1]

"""A trained model in the units of the data: standardisation, score, and the flow through both.

With z = T(x) the standardising bijection, log p(x) = log p_0(T(x)) + log |det ∂T/∂x|. T is
evaluated in float64 on the host, the flow in the model's own precision on the device.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.calculus import Basis, Hadamard
from scoreode.errors import InputError
from scoreode.flow import (
    DEFAULT_PROBES,
    EXACT_UP_TO,
    AbstractSampler,
    Given,
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
from scoreode.model.gradients import Groups, LogDensity, NetworkScore, ODEScore
from scoreode.model.standardise import Chain
from scoreode.score import ScoreModel

Rows = Float[np.ndarray, "n d"]
Row = Float[Array, " d"]
Conditions = Float[np.ndarray, "n k"]


class Density(eqx.Module):
    """p(x), or p(x | c), of rows (n, d) in their own units.

    Where the bijection has a `condition`, every method takes c, (n, k), one of every row.
    """

    bijection: Chain
    score_model: ScoreModel

    def standardised(
        self, x: Rows, c: Conditions | None = None
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"], Conditions | None]:
        """z = T(x) in float32, log |det ∂T/∂x| in float64, and c as the score model takes it.

        **Raises:** `InputError` unless there is a c of the right shape exactly where it is needed.
        """
        c = self._standardised_conditions(c, len(x))
        z, log_det = self.bijection.forward(np.asarray(x, np.float64), c)
        return np.asarray(z, np.float32), np.asarray(log_det), _rounded(c)

    def _standardised_conditions(self, c: Conditions | None, n: int) -> Conditions | None:
        """c of n rows standardised, in float64.

        **Raises:** `InputError` unless there is a c of the right shape exactly where it is needed.
        """
        condition = self.bijection.condition
        k = 0 if condition is None else len(condition.W)
        shape = None if c is None else c.shape
        if shape != ((n, k) if k else None):
            wanted = f"conditions of shape {(n, k)}" if k else "no conditions"
            raise InputError(f"conditions of shape {shape}: this density takes {wanted}")
        if condition is None or c is None:
            return None
        return np.asarray(condition.standardised(np.asarray(c, np.float64)))

    def log_likelihood(
        self,
        x: Rows,
        seed: int = 0,
        how: Likelihood | GridLikelihood | Refined = Refined(),
        c: Conditions | None = None,
    ) -> LogLikelihood:
        """log p(x) of every row in nats, the standardisation's Jacobian included.

        **Arguments:** `seed` of the probes, used above 32 dimensions; `how`: grids refined to a
        tolerance, or one grid, or an adaptive solver, each with a probe.

        **Returns:** a `LogLikelihood` of NumPy arrays over rows.
        """
        z, log_det, c = self.standardised(x, c)
        process = self.score_model.process
        shared, d = (self.score_model, process, jr.key(seed)), x.shape[1]
        if isinstance(how, Refined):
            record = how(*shared, z, c=c)
        else:
            chunk = rows_at_once(d, tangents(how.probe, how.n_probes, d))
            record = map_rows(Given(how), shared, (z, c), chunk)
        return eqx.tree_at(lambda record: record.nats, record, record.nats + log_det)

    def nll_bound(
        self, x: Rows, seed: int = 0, c: Conditions | None = None
    ) -> Float[np.ndarray, " n"]:
        """An upper bound on −log p^SDE(x) of every row in nats; see `flow.nll_bound`."""
        z, log_det, c = self.standardised(x, c)
        shared = self.score_model, self.score_model.process
        keyed = jr.split(jr.key(seed), len(z)), z, c
        return map_rows(Given(nll_bound), shared, keyed, rows_at_once(x.shape[1], 0)) - log_det

    def sample(
        self,
        n: int,
        d: int,
        seed: int = 0,
        how: AbstractSampler = ODESampler(),
        c: Conditions | None = None,
    ) -> Rows:
        """n draws of x by this sampler, shape (n, d); the first k of n are the k of a smaller n."""
        # Folding in, unlike splitting, gives the i-th draw the same key whatever n is.
        keys = jax.vmap(lambda i: jr.fold_in(jr.key(seed), i))(jnp.arange(n))
        shared = self.score_model, self.score_model.process, (d,)
        c = self._standardised_conditions(c, n)
        z = map_rows(Given(how), shared, (keys, _rounded(c)), rows_at_once(d, 0))
        return np.asarray(self.bijection.inverse(z.astype(np.float64), c))

    def log_density(self, x: Row) -> Scalar:
        """log p(x) of one row in nats, all of it traced: to differentiate, compile and `vmap`.

        **Cost:** 82 evaluations of the score, half of them with tangents; on one grid, in the
        precision of x.
        """
        z, log_det = self.bijection.forward(x)
        score, process = self.score_model, self.score_model.process
        nats = GridLikelihood()(score, process, jr.key(0), jnp.asarray(z)).nats
        return jnp.asarray(nats + log_det)

    def draw(self, key: PRNGKeyArray, d: int) -> Row:
        """One row from p, all of it traced. **Cost:** what an adaptive solver takes."""
        z = ODESampler()(self.score_model, self.score_model.process, (d,), key)
        return jnp.asarray(self.bijection.inverse(z))

    def score(
        self,
        x: Rows,
        t: float = 0.0,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> Rows:
        """∇ log p(x) of every row for t = 0, and for t > 0 the network's ∇_x log q_t(x).

        At t = 0 it is the gradient of `log_likelihood` with the same `seed` and `how`, of its
        estimate where the divergence is estimated: above 32 dimensions the probes are the same.

        **Raises:** `InputError` for a t that is not in [0, T].

        **Cost** of a row at t = 0: the log-likelihood, its evaluations twice more on its last grid,
        and a reverse sweep over them; at t > 0 one evaluation.
        """
        return self._at(x, t, c, seed, how).gradient()

    def network_score(self, x: Rows, t: float, c: Conditions | None = None) -> Rows:
        """s_θ(·, t) in the units of x, for t up to t_min at t_min. **Cost:** one evaluation a row.

        **Raises:** `InputError` for a t that is not in [0, T].
        """
        return self._differentiable(x, c, self._of_network(x, t)).gradient()

    def hessian_product(
        self,
        x: Rows,
        v: Rows,
        t: float = 0.0,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> Rows:
        """∇² log p(x) v for every row, for t > 0 the network's ∇²_x log q_t(x) v; see `score`.

        **Cost:** that of `score`, with a tangent.
        """
        return self._at(x, t, c, seed, how).hessian_products(np.asarray(v)[:, None])[:, 0]

    def laplacian(
        self,
        x: Rows,
        t: float = 0.0,
        n_probes: int | None = None,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """tr ∇² log p(x) of every row, for t > 0 the network's tr ∇²_x log q_t(x), and its standard
        error; see `score`.

        **Arguments:** `n_probes`: None for the exact trace up to 32 dimensions, 16 probes above.

        **Cost:** that of `score`, with d or `n_probes` tangents.
        """
        exact = n_probes is None and x.shape[1] <= EXACT_UP_TO
        probe, n = (Basis(), 1) if exact else (Hadamard(), n_probes or DEFAULT_PROBES)
        return self._at(x, t, c, seed, how).laplacian(probe, n)

    def _at(self, x: Rows, t: float, c: Conditions | None, seed: int, how: Refined) -> LogDensity:
        """log p at t = 0, log q_t at t > 0."""
        if t != 0:
            return self._differentiable(x, c, self._of_network(x, t))
        z, _, rounded = self.standardised(x, c)
        key, score = jr.key(seed), self.score_model
        _, grids = how.solve(score, score.process, key, z, c=rounded)
        return self._differentiable(x, c, [(ODEScore(grid, key), rows) for grid, rows in grids])

    def _of_network(self, x: Rows, t: float) -> Groups:
        process = self.score_model.process
        if not 0 <= t <= process.t_max:
            raise InputError(f"t {t}: must be between 0, the data, and T = {process.t_max}")
        return [(NetworkScore(jnp.asarray(max(t, process.t_min), jnp.float32)), np.arange(len(x)))]

    def _differentiable(self, x: Rows, c: Conditions | None, groups: Groups) -> LogDensity:
        x = np.asarray(x, np.float64)
        c = self._standardised_conditions(c, len(x))
        z = np.asarray(self.bijection.forward(x, c)[0], np.float32)
        return LogDensity(self.score_model, self.bijection, groups, x, z, c)


def _rounded(c: Conditions | None) -> Conditions | None:
    """As the score model takes it."""
    return None if c is None else c.astype(np.float32)

"""The density of a trained model in the units of the data: standardisation and score model.

With the standardisation z = T(x), log p(x) = log p_0(T(x)) + log |det ∂T/∂x|. T is evaluated in
float64 on the host, the flow in the model's precision on the device.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.calculus import Basis, Hadamard
from scoreode.errors import InputError
from scoreode.flow import (
    BOUND_TIMES,
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
from scoreode.model.nlls import NLLs
from scoreode.model.standardise import Chain
from scoreode.score import ScoreModel, condition_on

Rows = Float[np.ndarray, "n d"]
Row = Float[Array, " d"]
Condition = Float[Array, " k"] | None
Conditions = Float[np.ndarray, "n k"]
_BOUNDS = 16  # of a row, whose mean is compared with the exact NLL


class Density(eqx.Module):
    """p(x) or p(x | c) for rows (n, d) in the units of the data.

    If the bijection has a `condition`, every method takes c, (n, k), the conditions of the rows.
    Where the network is told roles, x is NaN in all columns that are not diffused, and log p is
    that of the diffused ones given c.
    """

    bijection: Chain
    score_model: ScoreModel

    def standardise(
        self, x: Rows, c: Conditions | None = None
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"], Conditions | None]:
        """z = T(x) in float32, log |det ∂T/∂x| in float64, and the standardised c in float32.

        **Raises:** `InputError` if c is missing, is not needed, or has the wrong shape.
        """
        c = self._standardise_conditions(c, len(x))
        # Sums over columns add in the order of the memory, which is to be that of a row alone.
        z, log_det = self.bijection.forward(np.ascontiguousarray(x, np.float64), c)
        return np.asarray(z, np.float32), np.asarray(log_det), _float32(c)

    def _standardise_conditions(self, c: Conditions | None, n: int) -> Conditions | None:
        """The standardised conditions of n rows, in float64.

        **Raises:** `InputError` if c is missing, is not needed, or has the wrong shape.
        """
        condition = self.bijection.condition
        k = 0 if condition is None else condition.size
        shape = None if c is None else c.shape
        if shape != ((n, k) if k else None):
            expected = f"conditions of shape {(n, k)}" if k else "no conditions"
            raise InputError(f"conditions of shape {shape}: this density takes {expected}")
        if condition is None or c is None:
            return None
        return np.asarray(self.bijection.standardise(np.asarray(c, np.float64)))

    def log_likelihood(
        self,
        x: Rows,
        seed: int = 0,
        how: Likelihood | GridLikelihood | Refined = Refined(),
        c: Conditions | None = None,
    ) -> LogLikelihood:
        """log p(x) of every row in nats, including the Jacobian of the standardisation.

        **Arguments:** `seed` of the probes, used above 32 dimensions; `how`, the numerical method:
        grids refined to a tolerance, one grid, or an adaptive solver; `c`, the conditions.

        **Returns:** a `LogLikelihood` of NumPy arrays over rows.
        """
        z, log_det, c = self.standardise(x, c)
        process = self.score_model.process
        shared, d = (self.score_model, process, jr.key(seed)), x.shape[1]
        if isinstance(how, Refined):
            record = how(*shared, z, c=c)
        else:
            chunk = rows_at_once(d, tangents(how.probe, how.n_probes, d))
            record = map_rows(Given(how), shared, (z, c), chunk)
        nats = record.nats + log_det
        if not (hidden := np.isnan(x)).any():
            return eqx.tree_at(lambda record: record.nats, record, nats)
        latent = np.where(hidden, np.nan, record.latent)
        found = nats - self._log_density_of_hidden(hidden), latent
        return eqx.tree_at(lambda record: (record.nats, record.latent), record, found)

    def _log_density_of_hidden(self, hidden: Bool[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log p of the hidden coordinates of every row, which are 0, in nats.

        The network is masked there, so they have the law of normal data, N(0, α² + σ²) at t_min.
        """
        process = self.score_model.process
        t = jnp.asarray(process.t_min, jnp.float32)
        S = float(jnp.hypot(process.alpha(t), process.sigma(t)))
        return -hidden.sum(1) * (0.5 * math.log(2 * math.pi) + math.log(S))

    def nll_bound(
        self, x: Rows, seed: int = 0, c: Conditions | None = None
    ) -> Float[np.ndarray, " n"]:
        """An upper bound on −log p^SDE(x) of every row in nats; see `flow.nll_bound`."""
        z, log_det, c = self.standardise(x, c)
        return self._nll_bound(z, seed, c) - log_det + self._log_density_of_hidden(np.isnan(x))

    def _nll_bound(self, z: Rows, seed: int, c: Conditions | None) -> Float[np.ndarray, " n"]:
        """The bound in standardised coordinates."""
        shared = self.score_model, self.score_model.process
        keyed = jr.split(jr.key(seed), len(z)), z, c
        chunk = rows_at_once(z.shape[1], 0, BOUND_TIMES * self.score_model.hidden_size)
        return map_rows(Given(nll_bound), shared, keyed, chunk)

    def nlls(
        self, x: Rows, seed: int = 0, how: Refined = Refined(), c: Conditions | None = None
    ) -> NLLs:
        """The exact NLL of the ODE and the SDE's bound, on the same rows in nats.

        Both are those of rows at t_min, x_t = α x + σ ε, on which the theory's statements are
        exact, so that their mean difference is J_Diff.

        **Cost:** that of `log_likelihood`, and 256 evaluations of the score.
        """
        z, log_det, c = self.standardise(x, c)
        hidden = np.isnan(x)
        log_det = log_det - self._log_density_of_hidden(hidden)
        process, key = self.score_model.process, jr.key(seed)
        eps = jnp.where(hidden, 0, jr.normal(jr.fold_in(key, 1), z.shape, z.dtype))
        z_0 = np.asarray(process.diffuse(jnp.asarray(z), eps, jnp.float32(process.t_min)))
        record = how(self.score_model, process, key, z_0, c=c)
        ode = np.where(record.converged, -np.asarray(record.nats, np.float64), np.nan)
        draws = range(_BOUNDS * seed, _BOUNDS * (seed + 1))
        bound = np.mean([self._nll_bound(z, draw, c) for draw in draws], 0)
        return NLLs(ode - log_det, bound - log_det)

    def sample(
        self,
        n: int,
        d: int,
        seed: int = 0,
        how: AbstractSampler = ODESampler(),
        c: Conditions | None = None,
    ) -> Rows:
        """n draws of x, shape (n, d); the first k draws do not depend on n.

        **Arguments:** `seed`; `how`, the sampler; `c`, the conditions of the draws.
        """
        return self.draws(np.arange(n), d, seed, how, c)

    def draws(
        self,
        numbers: Int[np.ndarray, " n"],
        d: int,
        seed: int = 0,
        how: AbstractSampler = ODESampler(),
        c: Conditions | None = None,
    ) -> Rows:
        """The draws of these numbers, of all that a seed has; see `sample`."""
        # Folding in, unlike splitting, gives the i-th draw the same key for every n.
        keys = jax.vmap(lambda i: jr.fold_in(jr.key(seed), i))(jnp.asarray(numbers))
        shared = self.score_model, self.score_model.process, (d,)
        c = self._standardise_conditions(c, len(numbers))
        z = map_rows(Given(how), shared, (keys, _float32(c)), rows_at_once(d, 0))
        return np.asarray(self.bijection.inverse(z.astype(np.float64), c))

    def log_density(
        self,
        x: Row,
        c: Condition = None,
        how: GridLikelihood = GridLikelihood(),
        dtype: Any = None,
    ) -> Scalar:
        """log p(x) of one row in nats, fully traced: JAX can differentiate, compile and `vmap` it.

        T is in the precision of x, and the flow in `dtype`, by default that of x.

        **Arguments:** `c`, the conditions of the row, in their own units; `how`, the grid.

        **Cost:** 82 evaluations of the score, half of them with tangents.
        """
        return jnp.asarray(self.traced_likelihood(x, c, how, dtype).nats)

    def traced_likelihood(
        self,
        x: Row,
        c: Condition = None,
        how: GridLikelihood = GridLikelihood(),
        dtype: Any = None,
    ) -> LogLikelihood:
        """`log_density` with its estimated error and the rest of the record."""
        c = self._traced_conditions(c)
        z, log_det = self.bijection.forward(x, c)
        z = jnp.asarray(z, dtype)
        score, process = self._given(c, z.dtype), self.score_model.process
        record = how(score, process, jr.key(0), z)
        return eqx.tree_at(lambda record: record.nats, record, record.nats + log_det)

    def draw(
        self,
        key: PRNGKeyArray,
        d: int,
        c: Condition = None,
        dtype: Any = float,
    ) -> Row:
        """One draw of x, fully traced; T⁻¹ is in JAX's default precision, the flow in `dtype`.

        **Cost:** one solve by an adaptive solver.
        """
        c, process = self._traced_conditions(c), self.score_model.process
        x_T = process.prior_sample(key, (d,), dtype)
        z = ODESampler().from_latent(self._given(c, x_T.dtype), process, x_T)
        return jnp.asarray(self.bijection.inverse(jnp.asarray(z, float), c))

    def _traced_conditions(self, c: Condition) -> Condition:
        """The standardised conditions of one row."""
        condition = self.bijection.condition
        return c if condition is None or c is None else jnp.asarray(condition.standardise(c))

    def _given(self, c: Condition, dtype: jnp.dtype) -> ScoreModel:
        return condition_on(self.score_model, None if c is None else c.astype(dtype))

    def score(
        self,
        x: Rows,
        t: float = 0.0,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> Rows:
        """∇ log p(x) of every row if t = 0; the network's ∇_x log q_t(x) if t > 0.

        At t = 0 it is the gradient of `log_likelihood` with the same `seed` and `how`. Above 32
        dimensions it is the gradient of that estimate, with the same probes.

        **Raises:** `InputError` if t is not in [0, T].

        **Cost** per row: at t = 0 the log-likelihood, its evaluations on the final grid two more
        times, and a reverse sweep over them; at t > 0 one evaluation.
        """
        return self._at(x, t, c, seed, how).gradient()

    def network_score(self, x: Rows, t: float, c: Conditions | None = None) -> Rows:
        """s_θ(·, max(t, t_min)) in the units of x. **Cost:** one evaluation per row.

        **Raises:** `InputError` if t is not in [0, T].
        """
        return self._differentiable(x, c, self._network_groups(x, t)).gradient()

    def hessian_product(
        self,
        x: Rows,
        v: Rows,
        t: float = 0.0,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> Rows:
        """∇² log p(x) v for every row if t = 0; the network's ∇²_x log q_t(x) v if t > 0.

        See `score` for the other arguments.

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
        """tr ∇² log p(x) of every row, or the network's tr ∇²_x log q_t(x) if t > 0.

        **Arguments:** `n_probes` (None: the exact trace up to 32 dimensions, 16 probes above); see
        `score` for the others.

        **Returns:** the trace and its standard error, each of shape (n,).

        **Cost:** that of `score`, with d or `n_probes` tangents.
        """
        exact = n_probes is None and x.shape[1] <= EXACT_UP_TO
        probe, n = (Basis(), 1) if exact else (Hadamard(), n_probes or DEFAULT_PROBES)
        return self._at(x, t, c, seed, how).laplacian(probe, n)

    def _at(self, x: Rows, t: float, c: Conditions | None, seed: int, how: Refined) -> LogDensity:
        """log p if t = 0, log q_t if t > 0."""
        if t != 0:
            return self._differentiable(x, c, self._network_groups(x, t))
        z, _, c_float32 = self.standardise(x, c)
        key, score = jr.key(seed), self.score_model
        _, grids = how.solve(score, score.process, key, z, c=c_float32)
        return self._differentiable(x, c, [(ODEScore(grid, key), rows) for grid, rows in grids])

    def _network_groups(self, x: Rows, t: float) -> Groups:
        process = self.score_model.process
        if not 0 <= t <= process.t_max:
            raise InputError(f"t {t}: must be between 0, the data, and T = {process.t_max}")
        return [(NetworkScore(jnp.asarray(max(t, process.t_min), jnp.float32)), np.arange(len(x)))]

    def _differentiable(self, x: Rows, c: Conditions | None, groups: Groups) -> LogDensity:
        x = np.asarray(x, np.float64)
        c = self._standardise_conditions(c, len(x))
        z = np.asarray(self.bijection.forward(x, c)[0], np.float32)
        return LogDensity(self.score_model, self.bijection, groups, x, z, c)


def _float32(c: Conditions | None) -> Conditions | None:
    return None if c is None else c.astype(np.float32)

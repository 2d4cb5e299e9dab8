r"""The exact log-density of a diffusion ODE, by the instantaneous change of variables.

    log p_0(x_0) = log p_T(x_T) + ∫ ∇·h(x_t, t) dt    (Chen et al. 2018),

solved together with x_t from t_min to T, with adaptive steps for every example. Here p_0 is the
density at t_min, where σ is small but not zero.

The divergence is exact (the basis as probes, d tangents per evaluation) or Hutchinson's estimate
with k fixed probes. Fixed probes give k unbiased estimates of the whole integral, whose spread
gives the reported standard error. The probes' key is folded with the bits of the example, so a
point has the same probes alone, in any batch and in any order.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.calculus import AbstractProbe, Basis, Hadamard, ProbeDraw, divergence
from scoreode.flow.ode import Solver, velocity
from scoreode.process import AbstractProcess

EXACT_UP_TO = 32  # dimensions; above, d tangents per evaluation cost more than they gain
DEFAULT_PROBES = 16
BOUND_TIMES = 16  # of a bound on the NLL
Values = Array | np.ndarray


class LogLikelihood(eqx.Module):
    """log p_0 in nats, its errors and its cost; arrays over examples after `vmap`."""

    nats: Float[Values, "..."]
    stderr: Float[Values, "..."]
    """Standard error in nats of the divergence estimate; 0 where the divergence is exact, nan for
    a single random probe."""
    nfe: Int[Values, "..."]
    """Evaluations of the score, each with k tangents."""
    converged: Bool[Values, "..."]
    latent: Float[Values, "..."]
    """x_T, the point that the ODE connects with x_0."""
    error: Float[Values, "..."]
    """Estimated discretisation error in nats; nan where it was not estimated."""


class Likelihood(eqx.Module):
    """log p_0 by an adaptive solver.

    **Arguments:** `probe` and `n_probes` of the divergence (None: exact up to 32 dimensions,
    `n_probes` Hadamard probes above); `solver`.
    """

    probe: AbstractProbe | None = None
    n_probes: int = DEFAULT_PROBES
    solver: Solver = Solver()

    def __call__(
        self, score: ScoreFunction, process: AbstractProcess, key: PRNGKeyArray, x_0: Example
    ) -> LogLikelihood:
        """log p_0 of one example under the ODE of this score.

        **Returns:** a `LogLikelihood`; an example that did not converge is marked, not raised.

        **Cost:** `nfe` evaluations of the score, each with d (exact) or `n_probes` tangents.
        """
        t_0, T = process.t_min, process.t_max
        drawn = draw_probes(self.probe, self.n_probes, key, x_0)
        x_T, change, nfe, converged = self.solve(score, process, drawn, x_0, t_0, T)
        estimates = process.prior_log_density(x_T) + change
        return likelihood_record(estimates, drawn[1], nfe, converged, x_T)

    def sample(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        key: PRNGKeyArray,
        x_T: Example,
        like: Example | None = None,
    ) -> tuple[Example, LogLikelihood]:
        """The x_0 to which the ODE maps x_T, and log p_0(x_0).

        **Arguments:** `like`, the example whose probes are used, by default x_T.

        **Cost:** that of `__call__`.
        """
        T, t_0 = process.t_max, process.t_min
        drawn = draw_probes(self.probe, self.n_probes, key, x_T if like is None else like)
        x_0, change, nfe, converged = self.solve(score, process, drawn, x_T, T, t_0)
        estimates = process.prior_log_density(x_T) - change
        return x_0, likelihood_record(estimates, drawn[1], nfe, converged, x_T)

    def solve(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        drawn: tuple[AbstractProbe, ProbeDraw],
        x: Example,
        start: float | Scalar,
        end: float | Scalar,
    ) -> tuple[Example, Float[Array, " k"], Int[Array, ""], Bool[Array, ""]]:
        """x at `end`, estimates of ∫ ∇·h dt along the path by these probes, `nfe`, `converged`."""
        probe, probes = drawn
        channels = 1 if probe.exact else len(probes.vectors)

        def field(t: Scalar, y: tuple[Example, Array]) -> tuple[Example, Array]:
            h = lambda x: velocity(score, process, x, t)  # noqa: E731
            return divergence(h, y[0], probes, probe.exact)

        state = x, jnp.zeros(channels, x.dtype)
        (x, change), nfe, converged = self.solver(field, state, start, end)
        return x, change, nfe, converged


def tangents(probe: AbstractProbe | None, n: int, d: int) -> int:
    """The number of tangents per evaluation of the divergence, in d dimensions."""
    return d if is_exact(probe, d) else n


def is_exact(probe: AbstractProbe | None, d: int) -> bool:
    """Whether the divergence is exact in d dimensions."""
    return _default_probe(probe, d).exact


def _default_probe(probe: AbstractProbe | None, d: int) -> AbstractProbe:
    return probe or (Basis() if d <= EXACT_UP_TO else Hadamard())


def draw_probes(
    probe: AbstractProbe | None, n: int, key: PRNGKeyArray, x: Example
) -> tuple[AbstractProbe, ProbeDraw]:
    """The probe (None: chosen by dimension), and n vectors for this example."""
    probe = _default_probe(probe, x.size)
    return probe, probe.draw(jr.fold_in(key, _bits(x)), n, x.size, x.dtype)


def likelihood_record(
    estimates: Float[Array, " k"],
    probes: ProbeDraw,
    nfe: Int[Array, ""],
    converged: Bool[Array, ""],
    x_T: Example,
    error: Scalar | float = jnp.nan,
) -> LogLikelihood:
    """The `LogLikelihood` of one exact value of log p_0, or of k estimates from these probes."""
    nats, stderr = mean_and_error(estimates, probes)
    error = jnp.asarray(error, nats.dtype)
    return LogLikelihood(nats, stderr, nfe, converged & jnp.isfinite(nats), x_T, error)


def mean_and_error(estimates: Float[Array, " k"], probes: ProbeDraw) -> tuple[Scalar, Scalar]:
    """The mean of one exact value or of k estimates, and its standard error; nan for one probe."""
    k, mean = estimates.size, jnp.mean(estimates)
    spread = jnp.std(estimates, ddof=1) if k > 1 else jnp.full((), jnp.nan, mean.dtype)
    stderr = jnp.where(probes.variance == 0, 0, jnp.sqrt(probes.variance / k) * spread)
    return mean, stderr.astype(mean.dtype)


def _bits(x: Example) -> UInt32[Array, ""]:
    """A 32-bit hash of an example's floating-point bits (FNV-1a's prime, word by word)."""
    words = lax.bitcast_convert_type(x.ravel().astype(jnp.float32), jnp.uint32)
    prime = jnp.uint32(16777619)
    return lax.scan(lambda h, word: ((h ^ word) * prime, None), jnp.uint32(2166136261), words)[0]


def nll_bound(
    score: ScoreFunction,
    process: AbstractProcess,
    key: PRNGKeyArray,
    x_0: Example,
    n_times: int = BOUND_TIMES,
) -> Scalar:
    r"""An upper bound on −log p_0^SDE(x_0) in nats, by Monte Carlo (Song et al. 2021, Theorem 3).

        −E log p_T(x_T) + ½ ∫ (g²/σ²) (E‖σ s + ε‖² − d) dt − d log(α_T / α_0)

    The times are stratified in log-SNR, where the integral's weight is constant. The bound is on
    the SDE's density, not the ODE's. It is cheap and smooth enough for early stopping.

    The residual of the score of the standard normal law, r = (α² ε − α σ x_0) / (α² + σ²), is a
    control variate: only ‖σ s + ε‖² − ‖r‖² is drawn, and the rest of the integral is in closed
    form. For that score the bound is exact.

    **Cost:** `n_times` evaluations of the score.
    """
    key_t, key_eps = jr.split(key)
    low, high = process.log_snr_range(x_0.dtype)
    u = (jr.uniform(key_t, dtype=x_0.dtype) + jnp.arange(n_times, dtype=x_0.dtype) / n_times) % 1
    t = jax.vmap(process.t_of_log_snr)(low + (high - low) * u)
    eps = jr.normal(key_eps, (n_times, *x_0.shape), x_0.dtype)
    d, square = x_0.size, jnp.sum(x_0**2)

    def excess(t: Scalar, eps: Example) -> Scalar:
        alpha, sigma = process.alpha(t), process.sigma(t)
        residual = sigma * score(process.diffuse(x_0, eps, t), t) + eps
        of_normal = alpha * (alpha * eps - sigma * x_0) / (alpha**2 + sigma**2)
        return jnp.sum(residual**2) - jnp.sum(of_normal**2)

    def antiderivative(log_snr: Scalar) -> Scalar:
        """Of E‖r‖² − d = d sigmoid(λ)² + ‖x_0‖² sigmoid′(λ) − d."""
        noise = jax.nn.sigmoid(log_snr)
        return square * noise + d * (jax.nn.softplus(-log_snr) - noise)

    t_0, T = (jnp.asarray(t, x_0.dtype) for t in (process.t_min, process.t_max))
    drawn = (high - low) * jnp.mean(jax.vmap(excess)(t, eps))
    integral = 0.5 * (drawn + antiderivative(high) - antiderivative(low))
    at_T = process.prior_log_density(process.alpha(T) * x_0)
    at_T = at_T - d / 2 * (process.sigma(T) / process.prior_scale(x_0.dtype)) ** 2
    return integral - at_T - d * jnp.log(process.alpha(T) / process.alpha(t_0))

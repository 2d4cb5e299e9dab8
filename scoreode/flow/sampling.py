"""Samples: the ODE run from the prior, or the reverse SDE.

    ODE   dx = (f − ½ g² s) dt
    SDE   dx = (f − g² s) dt + g dw̄

With the exact score both have the data's marginals; with a learned one they are different models,
and `log_likelihood` is the ODE's.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.flow.ode import Solver, velocity
from scoreode.process import AbstractProcess


class ODESampler(eqx.Module):
    """x_0 from x_T ~ p_T by the probability-flow ODE: exact samples of p_0^ODE."""

    solver: Solver = Solver()

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** as many evaluations as the solver takes."""
        return self.from_latent(score, process, process.prior_sample(key, shape))

    def from_latent(self, score: ScoreFunction, process: AbstractProcess, x_T: Example) -> Example:
        """The x_0 that the ODE carries x_T to."""

        def field(t: Scalar, x: Example) -> Example:
            return velocity(score, process, x, t)

        return self.solver(field, x_T, process.t_max, process.t_min)[0]


class EulerMaruyama(eqx.Module):
    """x_0 from x_T ~ p_T by Euler–Maruyama steps of the reverse SDE, equal in t.

    The last step adds no noise. Weak error is of first order in the step.
    """

    n_steps: int = 1000

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** `n_steps` evaluations of the score."""
        key_prior, key_noise = jr.split(key)
        times = jnp.linspace(process.t_max, process.t_min, self.n_steps + 1)

        def step(x: Example, i: jax.Array) -> tuple[Example, None]:
            t, dt = times[i], times[i] - times[i + 1]
            g2 = process.g2(t)
            mean = x - dt * (process.drift(x, t) - g2 * score(x, t))
            noise = jr.normal(jr.fold_in(key_noise, i), shape)
            last = i == self.n_steps - 1
            return mean + jnp.where(last, 0.0, jnp.sqrt(g2 * dt)) * noise, None

        return jax.lax.scan(step, process.prior_sample(key_prior, shape), jnp.arange(self.n_steps))[
            0
        ]

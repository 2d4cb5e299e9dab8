"""The probability-flow ODE and its adaptive solver.

    dx/dt = h(x, t) = f(x, t) − ½ g(t)² s(x, t)

From T to t_min it gives samples, from t_min to T densities. In y = x/S, S = √(α² + σ²), and the
log-SNR λ, the ODE is the same for every linear process,

    dy/dλ = f(y, λ) = ½ (σ/S)² (S s + y),

and f is zero for standard normal data.
"""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.process import AbstractProcess


def velocity(score: ScoreFunction, process: AbstractProcess, x: Example, t: Scalar) -> Example:
    """h(x, t), of the shape of x. **Cost:** one evaluation of the score."""
    return process.drift(x, t) - 0.5 * process.g2(t) * score(x, t)


def scales(process: AbstractProcess, t: Scalar) -> tuple[Scalar, Scalar]:
    """S = √(α² + σ²) and ½ (σ/S)²."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    S = jnp.hypot(alpha, sigma)
    return S, 0.5 * (sigma / S) ** 2


def standard_velocity(
    score: ScoreFunction, process: AbstractProcess, y: Example, log_snr: Scalar
) -> Example:
    """f(y, λ), of the shape of y. **Cost:** one evaluation of the score."""
    t = process.t_of_log_snr(log_snr)
    S, half_sin2 = scales(process, t)
    return half_sin2 * (S * score(S * y, t) + y)


class Solver(eqx.Module):
    """An adaptive Runge–Kutta solver: Tsitouras 5(4) unless another Diffrax method is given.

    **Arguments:** `rtol`, `atol`: the local error stays below atol + rtol |y|, in root mean square
    over the state (give arrays to change the values without a new compilation); `max_steps`, after
    which a solution counts as not converged; `method`.
    """

    rtol: float | Scalar = 1e-5
    atol: float | Scalar = 1e-5
    max_steps: int = 4096
    method: dfx.Tsit5 | dfx.Dopri5 | dfx.Dopri8 = dfx.Tsit5()

    def __call__(
        self,
        field: Callable[[Scalar, Any], Any],
        y: Any,
        t_0: float | Scalar,
        t_1: float | Scalar,
    ) -> tuple[Any, Int[Array, ""], Bool[Array, ""]]:
        """Solves dy/dt = field(t, y) from y(t_0) = y.

        **Returns:** y(t_1); the number of evaluations of the field; whether the solve converged. It
        did not if it ran out of steps or met a non-finite value. Nothing is raised then, so that
        one bad row does not lose the others.
        """
        dtype = jnp.result_type(*jax.tree.leaves(y))
        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, y, _: field(jnp.asarray(t), y)),
            self.method,
            t0=jnp.asarray(t_0, dtype),
            t1=jnp.asarray(t_1, dtype),
            dt0=None,
            y0=y,
            stepsize_controller=dfx.PIDController(rtol=self.rtol, atol=self.atol),
            max_steps=self.max_steps,
            throw=False,
        )
        stages = self.method.tableau.num_stages
        # The last stage of a step is the first of the next.
        nfe = (stages - 1) * solution.stats["num_steps"] + 1
        y_1 = jax.tree.map(lambda saved: saved[-1], solution.ys)
        return y_1, nfe, solution.result == dfx.RESULTS.successful

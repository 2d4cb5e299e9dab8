"""The log-density as peers compute it: an eager PyTorch network, exact divergence by autograd.

SciPy's RK45 on the host and torchdiffeq's dopri5, one step size for the whole batch, around a copy
of a trained `ScoreModel` of velocities. Needs `pip install torch torchdiffeq`.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import torch
from peers.network import ResidualMLP
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

from scoreode.process import VE
from scoreode.score import ScoreModel, Velocity

Field = Callable[[float, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Scheme = Callable[[np.ndarray], tuple[np.ndarray, float]]


def field(model: ScoreModel) -> Field:
    """dx/dt and its divergence, by d reverse sweeps."""
    process, network = model.process, ResidualMLP.copy(model.network)
    assert isinstance(process, VE)
    assert isinstance(model.parametrisation, Velocity)
    growth = np.log(process.sigma_max / process.sigma_min)

    def field(t: float, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sigma = float(process.sigma_min * np.exp(growth * t))
        scale = float(np.hypot(1.0, sigma))
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            F = network(x / scale, torch.tensor(-2 * np.log(sigma), dtype=torch.float32))
            score = -x / scale**2 - F / (sigma * scale)
            h = -(sigma**2) * growth * score  # −½ g² s, g² = dσ²/dt
            columns = [
                torch.autograd.grad(h[:, i].sum(), x, retain_graph=True)[0][:, i]
                for i in range(x.shape[1])
            ]
        return h.detach(), sum(columns)

    return field


def eager_scipy(model: ScoreModel, rtol: float) -> Scheme:
    """SciPy's RK45 on the host."""
    f = field(model)

    def scheme(z: np.ndarray) -> np.ndarray:
        n, d = z.shape

        def rates(t: float, y: np.ndarray) -> np.ndarray:
            h, change = f(t, torch.from_numpy(y[: n * d].reshape(n, d).astype(np.float32)))
            return np.concatenate([h.numpy().ravel(), change.numpy()])

        y = np.concatenate([z.ravel(), np.zeros(n)])
        span = model.process.t_min, model.process.t_max
        solution = solve_ivp(rates, span, y, rtol=rtol, atol=rtol, method="RK45")
        y_T = solution.y[:, -1]
        return _log_density(model, y_T[: n * d].reshape(n, d), y_T[n * d :]), solution.nfev

    return scheme


def torchdiffeq_dopri5(model: ScoreModel, rtol: float) -> Scheme:
    """torchdiffeq's dopri5, on float32 tensors."""
    f = field(model)

    def scheme(z: np.ndarray) -> np.ndarray:
        start = torch.from_numpy(z.astype(np.float32)), torch.zeros(len(z))
        span = torch.tensor([model.process.t_min, model.process.t_max])
        nfe = 0

        def rates(t: torch.Tensor, y: tuple) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal nfe
            nfe += 1
            return f(float(t), y[0])

        with torch.no_grad():
            x, change = odeint(rates, start, span, rtol=rtol, atol=rtol, method="dopri5")
        return _log_density(model, x[-1].numpy(), change[-1].numpy()), nfe

    return scheme


def _log_density(model: ScoreModel, x_T: np.ndarray, change: np.ndarray) -> np.ndarray:
    scale = float(model.process.prior_scale(jnp.float32))
    normal = -0.5 * np.sum((x_T / scale) ** 2, 1) - x_T.shape[1] * np.log(
        scale * np.sqrt(2 * np.pi)
    )
    return normal + change

"""The flow-matching twin: torchcfm's OT-CFM (Tong et al. 2024) with scoreode's network.

x_t = t x_1 + (1 − t) x_0, where x_0 is normal noise, x_1 are rows, and the pairs of a batch are
those of exact optimal transport between both. v(x_t, t) ≈ E[x_1 − x_0 | x_t] is `ResidualMLP` with
scoreode's default width and depth, in x_t and in the log-SNR λ = 2 log(t / (1 − t)). For normal
rows optimal transport moves nothing: training starts at the exact velocity, as scoreode's does.
Optimiser, batch and average of the weights are scoreode's, too.

log p(x_1) = log N(x_0) − ∫ ∇·v dt, by torchdiffeq's dopri5 in float64, with the exact divergence,
over λ, in which the network is smooth; what lies beyond |λ| = 24 is 6e-6 of the time.
"""

import copy
from functools import partial
from math import log, pi

import jax
import jax.random as jr
import numpy as np
import torch
from torch.func import jvp, vmap
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchdiffeq import odeint

from peers import Array, Fit
from peers.network import ResidualMLP
from peers.training import Recipe, train
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.network import MLP
from scoreode.network.mlp import LEVELS

LAST = 24.0  # log-SNR
ROWS = 512  # at once; the solver has one step size for all of them
TOLERANCE = 1e-5
CHECKED = 256  # rows solved again at a hundredth of the tolerance
VALIDATIONS, VALIDATION_ROWS, VALIDATION_TOLERANCE = 10, 128, 1e-3  # a tenth of the seconds


def velocity(net: ResidualMLP, log_snr: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """v; the network knows log-SNRs within its levels."""
    return net(x, log_snr.clamp(LEVELS[0], LEVELS[-1]))


def rates(net: ResidualMLP, log_snr: torch.Tensor, state: tuple) -> tuple:
    """dx/dλ and its divergence."""
    x, _ = state

    def along(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return jvp(partial(velocity, net, log_snr), (x,), (v.expand_as(x),))

    rate = torch.sigmoid(log_snr / 2) * torch.sigmoid(-log_snr / 2) / 2  # dt/dλ
    basis = torch.eye(x.shape[1], dtype=x.dtype)
    dx, jacobian = vmap(along, out_dims=(None, 0))(basis)
    return rate * dx, rate * torch.einsum("ini->n", jacobian)


def log_prob(net: ResidualMLP, x: Array, tolerance: float = TOLERANCE) -> Array:
    """Of rows, in parts of `ROWS`."""
    exact = copy.deepcopy(net).double()
    span = torch.tensor([LAST, -LAST], dtype=torch.float64)
    found = []
    with torch.no_grad():
        for rows in torch.from_numpy(np.asarray(x, np.float64)).split(ROWS):
            start = rows, torch.zeros(len(rows), dtype=torch.float64)
            x_t, change = odeint(
                partial(rates, exact), start, span, rtol=tolerance, atol=tolerance, method="dopri5"
            )
            normal = -0.5 * (x_t[-1] ** 2).sum(1) - 0.5 * x.shape[1] * log(2 * pi)
            found.append(normal + change[-1])
    return torch.cat(found).numpy()


def difference(net: ResidualMLP, spec: MLP) -> float:
    """The largest difference of this architecture's outputs from scoreode's with the same weights.

    **Raises:** `AssertionError` for another number of parameters.
    """
    d = net.readout.out_features
    ours = spec.build((d,), jr.key(0))
    assert sum(p.numel() for p in net.parameters()) == sum(p.size for p in jax.tree.leaves(ours))
    x, log_snr = torch.randn(100, d), torch.linspace(LEVELS[0], LEVELS[-1], 100)
    found = ResidualMLP.copy(ours)(x, log_snr).numpy()
    expected = jax.vmap(ours)(x.numpy(), log_snr.numpy())
    return float(np.max(np.abs(found - np.asarray(expected))))


def flow_matching(x_train: Array, x_val: Array, seconds: float, seed: int) -> Fit:
    """OT-CFM, with the weights best by the exact NLL of validation rows."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # torchcfm draws the pairs by it
    n, d = x_train.shape
    ours = for_table(n, d, process=PROCESSES["ve"], seconds=seconds)
    assert isinstance(ours.network, MLP)
    net = ResidualMLP(d, ours.network)
    twin = {"difference_of_networks": difference(net, ours.network)}
    recipe = Recipe(
        ours.batch_size,
        ours.learning_rate,
        warmup=ours.warmup,
        b2=ours.b2,
        weight_decay=ours.weight_decay,
        clip=ours.clip,
        ema=ours.ema_decay,
        validations=VALIDATIONS,
    )
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        t, x_t, u = matcher.sample_location_and_conditional_flow(torch.randn_like(rows), rows)
        return ((velocity(net, torch.logit(t, eps=1e-6) * 2, x_t) - u) ** 2).mean()

    def validate() -> float:
        return -float(log_prob(net, x_val[:VALIDATION_ROWS], VALIDATION_TOLERANCE).mean())

    info = train(net, loss, validate, x_train, seconds, recipe)
    checked = x_val[:CHECKED]
    error = np.abs(log_prob(net, checked) - log_prob(net, checked, TOLERANCE / 100))
    info |= twin | {"solver_error": float(error.mean()), "largest_solver_error": float(error.max())}
    return Fit(partial(log_prob, net), info)

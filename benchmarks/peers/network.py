"""`scoreode.network.ResidualMLP` in PyTorch: the same layers, embeddings and initialisation."""

from math import sqrt
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn.functional import gelu

from scoreode.network import MLP
from scoreode.network.mlp import LEVELS


def linear(n_in: int, n_out: int, gain: float) -> nn.Linear:
    """Weights of standard deviation gain / √n_in, biases at zero."""
    layer = nn.Linear(n_in, n_out)
    nn.init.normal_(layer.weight, std=gain / sqrt(n_in))
    nn.init.zeros_(layer.bias)
    return layer


def activation(h: torch.Tensor) -> torch.Tensor:
    return gelu(h, approximate="tanh")


class ResidualMLP(nn.Module):
    """F(x, λ) over rows x (n, d) and log-SNRs λ (n,), or one for all."""

    def __init__(self, d: int, spec: MLP):
        super().__init__()
        w, m, n_levels = spec.width, spec.n_features, LEVELS.size
        B = spec.bandwidth * torch.randn(m, d) if m else None
        self.register_buffer("B", B)
        self.register_buffer("levels", torch.tensor(LEVELS, dtype=torch.float32))
        self.film = linear(n_levels, 2 * w * spec.depth, 0.1)
        self.embed = linear(d + 2 * m + n_levels, w, 1.0)
        self.blocks = nn.ModuleList(
            nn.ModuleList([linear(w, w, 1.0), linear(w, w, 0.3)]) for _ in range(spec.depth)
        )
        self.readout = linear(w, d, 0.01)

    @classmethod
    def copy(cls, net: Any) -> Self:
        """The network with the weights of a `scoreode.network.ResidualMLP`."""
        features = net.features
        m = 0 if features is None else len(features.B)
        d, width = net.readout.bias.size, net.embed.bias.size
        found = cls(d, MLP(width=width, depth=len(net.blocks), n_features=m))
        if features is not None:
            found.B = torch.tensor(np.array(features.B))
        pairs = [
            (getattr(found, name), getattr(net, name)) for name in ("film", "embed", "readout")
        ]
        for own, block in zip(found.blocks, net.blocks, strict=True):
            pairs += zip(own, (block.first, block.last), strict=True)
        with torch.no_grad():
            for own, layer in pairs:
                own.weight.copy_(torch.tensor(np.array(layer.weight)))
                own.bias.copy_(torch.tensor(np.array(layer.bias)))
        return found.requires_grad_(False)

    def forward(self, x: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        level = torch.exp(-0.5 * (log_snr.reshape(-1, 1) - self.levels) ** 2)
        level = level.expand(len(x), -1)
        film = self.film(level).reshape(len(x), len(self.blocks), 2, -1)
        parts = [x]
        if self.B is not None:
            phase = 2 * torch.pi * x @ self.B.T
            parts += [torch.cos(phase), torch.sin(phase)]
        h = self.embed(torch.cat([*parts, level], 1))
        for i, (first, last) in enumerate(self.blocks):
            gamma, beta = film[:, i, 0], film[:, i, 1]
            h = h + last(activation((1 + gamma) * first(activation(h)) + beta))
        return self.readout(activation(h))

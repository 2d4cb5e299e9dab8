"""Arrays to arrays: networks F(x, log-SNR), and the specifications from which they are built."""

from scoreode.network.matrix import LowRankHead, SymmetricHead, TraceHead
from scoreode.network.mlp import MLP, ResidualMLP

__all__ = ["MLP", "LowRankHead", "ResidualMLP", "SymmetricHead", "TraceHead"]

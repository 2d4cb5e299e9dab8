"""Networks F(x, log-SNR) and the specifications that build them."""

from scoreode.network.ddpm import DDPM, StepUNet
from scoreode.network.dequantiser import CellNoise
from scoreode.network.heads import LowRankHead, SymmetricHead, TraceHead
from scoreode.network.masked import Masked
from scoreode.network.mlp import MLP, ResidualMLP
from scoreode.network.ncsnpp import DDPMpp, NCSNpp, PlusPlus
from scoreode.network.specification import Specification
from scoreode.network.unet import ImageUNet, UNet

__all__ = [
    "DDPM",
    "MLP",
    "CellNoise",
    "DDPMpp",
    "ImageUNet",
    "LowRankHead",
    "Masked",
    "NCSNpp",
    "PlusPlus",
    "ResidualMLP",
    "Specification",
    "StepUNet",
    "SymmetricHead",
    "TraceHead",
    "UNet",
]

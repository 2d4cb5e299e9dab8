"""Derivatives of vector fields: probes, divergence, the derivative record. No diffusion here."""

from scoreode.calculus.derivatives import Derivatives, derivatives, divergence
from scoreode.calculus.probes import (
    AbstractProbe,
    Basis,
    Gaussian,
    Hadamard,
    ProbeDraw,
    Rademacher,
    Sphere,
)

__all__ = [
    "AbstractProbe",
    "Basis",
    "Derivatives",
    "Gaussian",
    "Hadamard",
    "ProbeDraw",
    "Rademacher",
    "Sphere",
    "derivatives",
    "divergence",
]

"""Objectives: denoising score matching of order 1, 2 and 3, and the sampling of t."""

from scoreode.objective.denoising import DenoisingScoreMatching, Ramp, Terms
from scoreode.objective.objective import Objective
from scoreode.objective.separate import AbstractSeparate, Meng, Second, SecondTrace, Third
from scoreode.objective.targets import (
    AbstractNoise,
    AbstractTargets,
    Antithetic,
    Draw,
    Independent,
    PosteriorMean,
)
from scoreode.objective.weighting import (
    AbstractWeighting,
    AdaptiveLikelihood,
    Likelihood,
    UniformTime,
)

__all__ = [
    "AbstractNoise",
    "AbstractSeparate",
    "AbstractTargets",
    "AbstractWeighting",
    "AdaptiveLikelihood",
    "Antithetic",
    "DenoisingScoreMatching",
    "Draw",
    "Independent",
    "Likelihood",
    "Meng",
    "Objective",
    "PosteriorMean",
    "Ramp",
    "Second",
    "SecondTrace",
    "Terms",
    "Third",
    "UniformTime",
]

"""The paper's theorems, checked numerically against closed forms."""

from scoreode.theory.bound import DataPath, PathErrors
from scoreode.theory.estimate import Estimate, spread_points
from scoreode.theory.fokker_planck import GridDensity, sde_density
from scoreode.theory.identities import Curves, Integrals, Theorem1, curves, integrals, theorem_1
from scoreode.theory.model_score import AugmentedODE, LikelihoodGradient, ModelScore
from scoreode.theory.oracle import MixtureOracle, Posterior, log_q_0
from scoreode.theory.wrong import Wrong

__all__ = [
    "AugmentedODE",
    "Curves",
    "DataPath",
    "Estimate",
    "GridDensity",
    "Integrals",
    "LikelihoodGradient",
    "MixtureOracle",
    "ModelScore",
    "PathErrors",
    "Posterior",
    "Theorem1",
    "Wrong",
    "curves",
    "integrals",
    "log_q_0",
    "sde_density",
    "spread_points",
    "theorem_1",
]

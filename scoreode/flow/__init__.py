"""What is integrated: the probability-flow ODE, its exact likelihood, its samples."""

from scoreode.flow.batch import chunked, map_rows, rows_at_once
from scoreode.flow.dequantise import AbstractDequantisation, TruncatedNormal, Uniform, declared
from scoreode.flow.grid import GridLikelihood
from scoreode.flow.likelihood import DEFAULT_PROBES, Likelihood, LogLikelihood, nll_bound, tangents
from scoreode.flow.ode import Solver, scales, standard_velocity, velocity
from scoreode.flow.refine import Refined
from scoreode.flow.sampling import (
    AbstractSampler,
    Ancestral,
    DPMSolver,
    EulerMaruyama,
    ODESampler,
    PredictorCorrector,
)

__all__ = [
    "DEFAULT_PROBES",
    "AbstractDequantisation",
    "AbstractSampler",
    "Ancestral",
    "DPMSolver",
    "EulerMaruyama",
    "GridLikelihood",
    "Likelihood",
    "LogLikelihood",
    "ODESampler",
    "PredictorCorrector",
    "Refined",
    "Solver",
    "TruncatedNormal",
    "Uniform",
    "chunked",
    "declared",
    "map_rows",
    "nll_bound",
    "rows_at_once",
    "scales",
    "standard_velocity",
    "tangents",
    "velocity",
]

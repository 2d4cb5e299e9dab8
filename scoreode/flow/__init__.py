"""The probability-flow ODE: its exact likelihood and its samples."""

from scoreode.flow.dequantise import (
    AbstractDequantisation,
    LogitNormal,
    TruncatedNormal,
    Uniform,
    logit_normal,
    uniform_noise,
)
from scoreode.flow.grid import GridLikelihood
from scoreode.flow.likelihood import (
    BOUND_TIMES,
    DEFAULT_PROBES,
    EXACT_UP_TO,
    Likelihood,
    LogLikelihood,
    draw_probes,
    mean_and_error,
    nll_bound,
    tangents,
)
from scoreode.flow.ode import Solver, scales, standard_velocity, velocity
from scoreode.flow.parallel import map_batches, map_chunks, map_rows, rows_at_once
from scoreode.flow.refine import Refined
from scoreode.flow.sampling import (
    AbstractSampler,
    Ancestral,
    DPMSolver,
    EulerMaruyama,
    ODESampler,
    PredictorCorrector,
)
from scoreode.score import Given

__all__ = [
    "BOUND_TIMES",
    "DEFAULT_PROBES",
    "EXACT_UP_TO",
    "AbstractDequantisation",
    "AbstractSampler",
    "Ancestral",
    "DPMSolver",
    "EulerMaruyama",
    "Given",
    "GridLikelihood",
    "Likelihood",
    "LogLikelihood",
    "LogitNormal",
    "ODESampler",
    "PredictorCorrector",
    "Refined",
    "Solver",
    "TruncatedNormal",
    "Uniform",
    "draw_probes",
    "logit_normal",
    "map_batches",
    "map_chunks",
    "map_rows",
    "mean_and_error",
    "nll_bound",
    "rows_at_once",
    "scales",
    "standard_velocity",
    "tangents",
    "uniform_noise",
    "velocity",
]

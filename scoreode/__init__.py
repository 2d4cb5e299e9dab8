"""scoreode: likelihood-trained diffusion ODEs.

`ScoreODE` is the estimator. The rooms are the library: `process`, `calculus`, `network`, `score`,
`objective`, `flow`, `theory`, `train`, `data`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scoreode.estimator.score_ode import ScoreODE as ScoreODE

__all__ = ["ScoreODE"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Imported when asked for: the command's --help should not wait for JAX.
    if name == "ScoreODE":
        from scoreode.estimator.score_ode import ScoreODE

        return ScoreODE
    raise AttributeError(f"module 'scoreode' has no attribute {name!r}")

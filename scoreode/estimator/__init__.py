"""The front door for Python."""

from scoreode.estimator.score_ode import ScoreODE as ScoreODE

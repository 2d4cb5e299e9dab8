"""Figures of the paper from one call each: the same network, steps and data for every order."""

from scoreode.reproduce.checkerboard import checkerboard
from scoreode.reproduce.mog import mog

REPRODUCE = {"checkerboard": checkerboard, "mog": mog}

__all__ = ["REPRODUCE", "checkerboard", "mog"]

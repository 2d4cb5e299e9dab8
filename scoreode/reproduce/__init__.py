"""Figures and numbers of the paper from one call each."""

from scoreode.reproduce import table1
from scoreode.reproduce.checkerboard import checkerboard
from scoreode.reproduce.mog import mog

REPRODUCE = {"checkerboard": checkerboard, "mog": mog}

__all__ = ["REPRODUCE", "checkerboard", "mog", "table1"]

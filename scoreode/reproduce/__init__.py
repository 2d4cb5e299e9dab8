"""Figures and numbers of the paper from one call each."""

from scoreode.reproduce import table1
from scoreode.reproduce.checkerboard import checkerboard
from scoreode.reproduce.mog import mog
from scoreode.reproduce.table1 import PRESETS

REPRODUCE = {"checkerboard": checkerboard, "mog": mog}

__all__ = ["PRESETS", "REPRODUCE", "checkerboard", "mog", "table1"]

"""The theorems, measured against closed forms."""

from scoreode.theory.oracle import MixtureOracle

__all__ = ["MixtureOracle"]

"""Fitted densities as distributions of other libraries, one file for each; none is required."""

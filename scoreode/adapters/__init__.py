"""Fitted densities as distributions of other libraries; the libraries are optional."""

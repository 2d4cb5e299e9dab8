r"""Densities in closed form: Gaussian mixtures, kernel estimates and heavy tails.

All are mixtures of elliptical laws,

    p(z | k) = Σ_j P(j | k) |det A_j| g(‖A_j (z − m_j)‖²),   z = T(x),

where g is standard normal or Student's t, T a bijection as that of a diffusion, and k the row's
categories, if there are some. Few rows are often better described by them than by a network, and a
heavy tail bounds what a row can cost. The marginals of some columns, and the laws of some given
others, are of the same kind.
"""

from scoreode.model.simple.density import SimpleDensity as SimpleDensity
from scoreode.model.simple.kernels import fit_kernels as fit_kernels
from scoreode.model.simple.kernels import kernel_bandwidth as kernel_bandwidth
from scoreode.model.simple.mixture import fit_mixture as fit_mixture
from scoreode.model.simple.tail import fit_tail as fit_tail

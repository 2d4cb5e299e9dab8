"""From the data's units to coordinates in which a diffusion is easy: bijections with Jacobians.

A diffusion adds the same noise in every direction. Directions in which the data are much thinner
than the rest, and heavy tails, are then hard to learn, and an affine map or a power transform that
removes them costs nothing: with z = T(x), log p(x) = log p(T(x)) + log |det ∂T/∂x|.

Fitting and evaluation are float64 NumPy, as a nearly degenerate column needs the digits. The same
code traces under JAX, which is how scores are carried back to the data's units.
"""

from scoreode.model.standardise.affine import Centring as Centring
from scoreode.model.standardise.affine import Scaling as Scaling
from scoreode.model.standardise.affine import Whitening as Whitening
from scoreode.model.standardise.bijection import AbstractBijection as AbstractBijection
from scoreode.model.standardise.chain import Chain as Chain
from scoreode.model.standardise.chain import Conditioning as Conditioning
from scoreode.model.standardise.choice import preferred as preferred
from scoreode.model.standardise.power import Power as Power

"""Standardisation: bijections from the data's units to coordinates that suit a diffusion.

A diffusion adds the same noise in every direction. Heavy tails, and directions in which the data
vary much less than in others, are then hard to learn. An affine map or a power transform removes
them at no cost: with z = T(x), log p(x) = log p(T(x)) + log |det ∂T/∂x|.

Fitting and evaluation are in float64 NumPy, because nearly constant columns need the digits. The
same code traces under JAX, which converts scores back to the data's units.
"""

from scoreode.model.standardise.affine import Centring as Centring
from scoreode.model.standardise.affine import Scaling as Scaling
from scoreode.model.standardise.affine import Whitening as Whitening
from scoreode.model.standardise.bijection import AbstractBijection as AbstractBijection
from scoreode.model.standardise.chain import Chain as Chain
from scoreode.model.standardise.chain import Conditioning as Conditioning
from scoreode.model.standardise.choice import choose as choose
from scoreode.model.standardise.observed import ObservedPower as ObservedPower
from scoreode.model.standardise.observed import ObservedScaling as ObservedScaling
from scoreode.model.standardise.observed import Roles as Roles
from scoreode.model.standardise.power import Power as Power
from scoreode.model.standardise.support import Support as Support

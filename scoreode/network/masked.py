"""A network that learns p(x_A | x_B) for many sets of columns A and B: others are masked.

Its conditions end with the roles of the d columns: indicators of given, absent and missing ones,
and then the given values. A column with none of these roles is diffused.
"""

import equinox as eqx
from jaxtyping import Array, Float

from scoreode._typing import Network, Scalar


class Masked(eqx.Module):
    """F(x, λ | c) = m ⊙ F'(m ⊙ x, λ | c), m the indicator of diffused columns.

    The others have F = 0: for the velocity, the score of independent standard normal values. So
    their density is known, and that of the diffused ones does not depend on them.
    """

    network: Network
    d: int = eqx.field(static=True)

    def diffused(self, c: Float[Array, " k"]) -> Float[Array, " d"]:
        """m."""
        return 1 - c[-4 * self.d : -self.d].reshape(3, self.d).sum(0)

    def __call__(
        self, x: Float[Array, " d"], log_snr: Scalar, c: Float[Array, " k"]
    ) -> Float[Array, " d"]:
        m = self.diffused(c)
        return m * self.network(m * x, log_snr, c)

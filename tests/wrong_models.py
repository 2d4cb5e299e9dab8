"""Lower-order models that are wrong by known amounts, and smooth models that are no one's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from catalogue import random_field

from scoreode.theory.minimisers import Minimisers
from scoreode.theory.wrong import Wrong


class MatrixField(eqx.Module):
    """A smooth (d, d) function of x and t that is neither symmetric nor anyone's derivative."""

    field: eqx.Module

    def __call__(self, x, t):
        return jnp.outer(self.field(x, t), jnp.cos(x)) + jnp.diag(self.field(2 * x, t))


class SumField(eqx.Module):
    """A smooth number."""

    field: eqx.Module

    def __call__(self, x, t):
        return jnp.sum(self.field(x, t))


class WrongHessian(eqx.Module):
    """ŝ2 = ∇²log q_t + size · field."""

    oracle: eqx.Module
    field: MatrixField
    size: jax.Array

    def __call__(self, x, t):
        return self.oracle.hessian(x, t) + self.size * self.field(x, t)


class WrongTrace(eqx.Module):
    """tr ∇²log q_t + size · field, which is not ŝ2's trace."""

    oracle: eqx.Module
    field: SumField
    size: jax.Array

    def __call__(self, x, t):
        return jnp.trace(self.oracle.hessian(x, t)) + self.size * self.field(x, t)


def matrix_field(d, seed):
    return MatrixField(random_field(d, seed))


def sum_field(d, seed):
    return SumField(random_field(d, seed))


def minimisers(oracle, size=0.5):
    """What is learnt from ŝ1, ŝ2 and a trace model each wrong by about `size`."""
    d, size = oracle.means.shape[1], jnp.asarray(size)
    return Minimisers(
        oracle,
        Wrong.random(oracle, oracle.process, size, d, jr.key(1)),
        WrongHessian(oracle, matrix_field(d, 2), size),
        WrongTrace(oracle, sum_field(d, 3), size),
    )

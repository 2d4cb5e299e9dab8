"""The paper's objectives, written as the paper writes them, with explicit matrices.

Slow and meant to be: nothing here is shared with the package. `s` is a field of x alone, flat.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Hats(NamedTuple):
    """ℓ1 and ℓ2, which gradients do not flow through."""

    l1: jax.Array
    l2: jax.Array


def hats(s, x_t, eps, sigma) -> Hats:
    d = x_t.size
    return Hats(sigma * s(x_t) + eps, sigma**2 * jax.jacobian(s)(x_t) + jnp.eye(d))


def first(s, x_t, eps, sigma):
    return jnp.sum((sigma * s(x_t) + eps) ** 2)


def second(s, x_t, l1, sigma, sign=1):
    S2 = jax.jacobian(s)(x_t)
    return jnp.sum((sigma**2 * S2 + jnp.eye(x_t.size) - sign * jnp.outer(l1, l1)) ** 2)


def second_trace(s, x_t, l1, sigma, sign=1):
    S2 = jax.jacobian(s)(x_t)
    return (sigma**2 * jnp.trace(S2) + x_t.size - sign * jnp.sum(l1**2)) ** 2


def third(s, x_t, l1, l2, sigma, signs=(1, -1, -2)):
    def trace(x):
        return jnp.trace(jax.jacobian(s)(x))

    eye = jnp.eye(x_t.size)
    a, b, c = signs
    l3 = (a * jnp.sum(l1**2) * eye + b * jnp.trace(l2) * eye + c * l2) @ l1
    return jnp.sum((sigma**3 * jax.grad(trace)(x_t) + l3) ** 2)


def second_probed(s, x_t, l1, sigma, v):
    s_v = jax.jacobian(s)(x_t) @ v
    return jnp.sum((sigma**2 * s_v + v - jnp.dot(l1, v) * l1) ** 2)


def second_trace_probed(s, x_t, l1, sigma, v):
    s_v = jax.jacobian(s)(x_t) @ v
    return (sigma**2 * jnp.dot(v, s_v) + jnp.sum(v**2) - jnp.dot(l1, v) ** 2) ** 2


def third_probed(s, x_t, l1, sigma, v):
    s_v = jax.jacobian(s)(x_t) @ v
    gradient = jax.grad(lambda x: v @ jax.jacobian(s)(x) @ v)(x_t)
    along = jnp.dot(l1, v)
    residual = sigma**3 * gradient + along**2 * l1
    residual -= (sigma**2 * jnp.dot(v, s_v) + jnp.sum(v**2)) * l1
    residual -= 2 * along * (sigma**2 * s_v + v)
    return jnp.sum(residual**2)

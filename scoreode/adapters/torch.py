"""A fitted density as a distribution of PyTorch: a prior, a likelihood, a potential, a proposal.

    p = Distribution(est)                  # or Distribution("runs/data-1")
    p.log_prob(x).sum().backward()         # ∇ log p(x) in x.grad
    Distribution(est, c).log_prob(x)       # log p(x | c)

JAX computes log p with its gradient, and autograd goes on from there. T is in float64, and the flow
in the precision of x. Tensors are not copied where JAX works on the device that they are on.
"""

# Where PyTorch is not installed, the type checker takes this file for it.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import torch
from jaxtyping import Array, Float, Int
from torch.autograd.function import once_differentiable
from torch.distributions import constraints

from scoreode._typing import Scalar
from scoreode.adapters.continuous import check_numbers, continuous
from scoreode.adapters.torch_support import Inside
from scoreode.errors import InputError
from scoreode.flow import GridLikelihood, map_batches, rows_at_once, tangents
from scoreode.model.fitted import Fitted
from scoreode.model.stack import Whole, diffusion_of

Tensor = Any
Row = Float[Array, " d"]
Given = Float[Array, " k"] | None
Pair = tuple[Row, Given]
"""x and c."""
_SEEDS = 2**31 - 1


class Distribution(torch.distributions.Distribution):
    """p(x), or p(x | c) of every c in a batch, over vectors of d values.

    It has no parameters but c: `rsample` has a gradient with respect to c, and no other.

    **Arguments:** `model`, a fitted `ScoreODE`, the folder of a run, or a `Fitted`; `c`, shape
    (*batch, k), the conditions in their own units.

    **Raises:** `InputError` for categories and discrete columns, which have no density, and for
    conditions that are missing, are not needed, are categories, or have the wrong shape.

    **Cost:** 82 evaluations of the network per log-density, half of them with d tangents (16 probes
    above 32 dimensions), and with a gradient about four times as long; one adaptive solve per
    sample, and one more with its reverse sweep per gradient.
    """

    has_rsample = True

    def __init__(self, model: Any, c: Tensor = None, validate_args: bool | None = None):
        self._fitted = continuous(model)
        self.c = _conditions(self._fitted, c)
        batch_shape = torch.Size() if self.c is None else self.c.shape[:-1]
        event_shape = torch.Size([len(self._fitted.data.columns)])
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> Any:
        """ℝᵈ, or the support that was declared."""
        declared = diffusion_of(self._fitted.whole).bijection.support
        return Inside(*declared) if declared else constraints.real_vector

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """The conditions are vectors of real numbers."""
        return {} if self.c is None else {"c": constraints.real_vector}

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Distribution":
        """The same distribution with this batch shape."""
        new = self._get_checked_instance(Distribution, _instance)
        batch_shape = torch.Size(batch_shape)
        new._fitted = self._fitted
        new.c = None if self.c is None else self.c.expand(*batch_shape, -1)
        super(Distribution, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """log p in nats of every vector of `value`, (..., d), whose shape is broadcast with c.

        In float64 if x or c is in float64, else in float32. It has first and second derivatives
        with respect to x and c.

        **Raises:** `ValueError` for another shape, and, if arguments are validated, for NaN and
        outside the declared support, where log p is −∞.
        """
        if value.shape[-1:] != self.event_shape:
            raise InputError(
                f"values of shape {tuple(value.shape)}: the last dimension must be"
                f" {self.event_shape[0]}, for {', '.join(self._fitted.data.columns)}"
            )
        if self._validate_args and value.numel():  # PyTorch cannot check none
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        given = () if self.c is None else (self.c.to(value.device),)
        double = any(tensor.dtype == torch.float64 for tensor in (value, *given))
        dtype = torch.float64 if double else torch.float32
        # Without conditions, rows that only the batch repeats are evaluated once.
        rows = shape if given else value.shape[:-1]
        x, *given = (
            tensor.expand(*rows, -1).reshape(-1, tensor.shape[-1]).to(dtype)
            for tensor in (value, *given)
        )
        if not len(x):
            return x.sum(-1).reshape(rows).expand(shape)
        law, c = self._fitted.whole, given[0] if given else None
        if torch.is_grad_enabled() and (x.requires_grad or (c is not None and c.requires_grad)):
            nats = _LogProb.apply(law, x, c)
        else:
            nats = _map(_log_density, (law,), x, c)
        return nats.reshape(rows).expand(shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape (*sample_shape, *batch_shape, d), by PyTorch's generator."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that are differentiable with respect to c: x_0 = the ODE's solution from x_T.

        x_T does not depend on c, so that the gradient is that of the solution at fixed x_T. The
        flow is in float32.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        seed = int(torch.randint(_SEEDS, (), device="cpu"))
        if self.c is None:
            return _draw(self._fitted, seed, shape[:-1].numel()).reshape(shape)
        c = self.c.expand(*shape[:-1], -1).reshape(-1, self.c.shape[-1])
        return _Draw.apply(self._fitted, seed, c).reshape(shape)


def _conditions(fitted: Fitted, c: Any) -> Tensor:
    """Conditions as a floating tensor (..., k); None for a density without."""
    names = fitted.data.conditions
    if not names:
        if c is not None:
            raise InputError("c: the model is fitted without conditions, and takes none")
        return None
    if c is None:
        raise InputError(f"the model is conditional on {', '.join(names)}: give c, (..., k)")
    check_numbers(fitted)
    c = torch.as_tensor(c)
    c = c if c.is_floating_point() else c.to(torch.get_default_dtype())
    if c.shape[-1:] != (len(names),):
        raise InputError(
            f"c of shape {tuple(c.shape)}: the last dimension must be {len(names)}, for"
            f" {', '.join(names)}"
        )
    return c


class _LogProb(torch.autograd.Function):
    """log p of rows x and c."""

    @staticmethod
    def forward(ctx: Any, law: Whole, x: Tensor, c: Tensor) -> Tensor:
        nats, gradient = _map(_with_gradient, (law,), x, c)
        ctx.law = law
        ctx.save_for_backward(x, c, *gradient)
        return nats

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor, ...]:
        x, c, *gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # what is asked for is differentiated again
            gradient = _Gradient.apply(ctx.law, x, c)
        return None, *(None if g is None else weight[:, None] * g for g in gradient)


class _Gradient(torch.autograd.Function):
    """∇ log p of rows with respect to x and c."""

    @staticmethod
    def forward(ctx: Any, law: Whole, x: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        ctx.law = law
        ctx.save_for_backward(x, c)
        return _map(_gradient, (law,), x, c)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        x, c = ctx.saved_tensors
        return None, *_map(_hessian_product, (ctx.law,), x, c, v, None if c is None else w)


class _Draw(torch.autograd.Function):
    """x_0 given every row of c, from the x_T of a seed."""

    @staticmethod
    def forward(ctx: Any, fitted: Fitted, seed: int, c: Tensor) -> Tensor:
        ctx.law, ctx.seed = fitted.whole, seed
        ctx.save_for_backward(c)
        return _draw(fitted, seed, len(c), c)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        (c,) = ctx.saved_tensors
        numbers = torch.arange(len(c), device=c.device)
        seed = jnp.asarray(ctx.seed)
        return None, None, _map(_draw_pullback, (ctx.law, seed), c, numbers, g)


def _draw(fitted: Fitted, seed: int, n: int, c: Tensor = None) -> Tensor:
    """n draws, (n, d), in the precision of c and where c is."""
    like = torch.empty(()) if c is None else c
    if not n:
        return like.new_empty((0, len(fitted.data.columns)))
    rows = fitted.sample(n, seed, c=None if c is None else c.detach().cpu().double().numpy())
    return torch.as_tensor(rows, dtype=like.dtype, device=like.device)


def _map(function: Callable, shared: tuple[Whole, *tuple[Array, ...]], *rows: Tensor) -> Any:
    """`function(*shared, *row)` of every row, as tensors where the first of the rows is."""
    law, first = shared[0], rows[0]
    model = diffusion_of(law).score_model
    d = first.shape[1]
    chunk = rows_at_once(d, tangents(None, GridLikelihood.n_probes, d), model.hidden_size)
    chunk = min(chunk, 2 ** (len(first) - 1).bit_length())  # a single row is not padded

    def take(index: np.ndarray) -> tuple:
        here = torch.from_numpy(index).to(first.device)
        return tuple(None if tensor is None else _to_jax(tensor.detach()[here]) for tensor in rows)

    def give(count: int, results: Any) -> Any:
        return jax.tree.map(lambda leaf: _to_torch(leaf, first.device)[:count], results)

    with jax.enable_x64(True):
        batches = map_batches(function, shared, len(first), take, give, chunk)
        parts = [results for _, results in batches]
    return jax.tree.map(lambda *tensors: torch.cat(tensors), *parts)


def _to_jax(tensor: Tensor) -> Array | np.ndarray:
    """The tensor's memory, if JAX works on its device and on no other; else a copy."""
    devices = jax.local_devices()
    platform = {"gpu": "cuda"}.get(devices[0].platform, devices[0].platform)
    if len(devices) == 1 and tensor.device.type == platform:
        return jax.dlpack.from_dlpack(tensor.contiguous())
    return tensor.cpu().numpy()


def _to_torch(array: Array, device: Any) -> Tensor:
    """The array's memory, if it is on one device; on this device of PyTorch."""
    whole = array if len(array.devices()) == 1 else np.array(array)
    return torch.from_dlpack(whole).to(device)


def _log_density(law: Whole, x: Row, c: Given, *, recompute: bool = False) -> Scalar:
    wide = None if c is None else c.astype(float)
    how = GridLikelihood(recompute=recompute)
    return law.log_density(x.astype(float), wide, how, x.dtype).astype(x.dtype)


def _with_gradient(law: Whole, x: Row, c: Given) -> tuple[Scalar, Pair]:
    # Without recomputation, all steps of a batch would be in memory.
    return jax.value_and_grad(lambda pair: _log_density(law, *pair, recompute=True))((x, c))


def _gradient(law: Whole, x: Row, c: Given) -> Pair:
    return _with_gradient(law, x, c)[1]


def _hessian_product(law: Whole, x: Row, c: Given, v: Row, w: Given) -> Pair:
    return jax.jvp(lambda *pair: _gradient(law, *pair), (x, c), (v, w))[1]


def _draw_pullback(
    law: Whole, seed: Int[Array, ""], c: Float[Array, " k"], number: Int[Array, ""], g: Row
) -> Float[Array, " k"]:
    """∂x_0/∂c, transposed, times g, of the draw that has this number."""
    key, d = jr.fold_in(jr.key(seed), number), g.size
    draw = lambda c: law.draw(key, d, c.astype(float), jnp.float32).astype(g.dtype)  # noqa: E731
    return jax.vjp(draw, c)[1](g)[0]

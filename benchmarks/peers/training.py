"""Training of PyTorch models for a wall-clock budget, validation included."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch

from peers import Array, Info

CHUNK = 4096  # rows at once


@dataclass(frozen=True)
class Recipe:
    """Adam with a warm-up over a part of the budget and a cosine to zero.

    `ema` is the decay of an average of the weights, by which validation and test go (0: none).
    """

    batch: int
    learning_rate: float
    warmup: float = 0.0
    b2: float = 0.999
    weight_decay: float = 0.0
    clip: float = 5.0
    ema: float = 0.0
    validations: int = 20

    def rate(self, share: float) -> float:
        """The learning rate after this share of the budget."""
        rise = min(share / self.warmup, 1.0) if self.warmup else 1.0
        return self.learning_rate * rise * 0.5 * (1 + cos(pi * min(share, 1.0)))


def tensor(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, np.float32))


def evaluate(log_prob: Callable[[torch.Tensor], torch.Tensor], x: Array) -> Array:
    """The log-densities of rows, without gradients."""
    with torch.no_grad():
        return torch.cat([log_prob(rows) for rows in tensor(x).split(CHUNK)]).double().numpy()


def train(
    module: torch.nn.Module,
    loss: Callable[[torch.Tensor], torch.Tensor],
    validate: Callable[[], float],
    train: Array,
    seconds: float,
    recipe: Recipe,
) -> Info:
    """Minimises `loss` of batches for `seconds`, and leaves the weights best by `validate`."""
    start, rows = time.perf_counter(), tensor(train)
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, recipe.learning_rate, (0.9, recipe.b2), weight_decay=recipe.weight_decay
    )
    average, best = ([w.detach().clone() for w in weights] for _ in range(2))
    best_nll, best_share, steps, skipped, share = float("inf"), 0.0, 0, 0, 0.0
    nlls: list[float] = []
    batches = iter(())
    while share < 1:
        batch = next(batches, None)
        if batch is None:
            batches = iter(torch.randperm(len(rows)).split(recipe.batch))
            continue
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(share)
        value = loss(rows[batch])
        optimizer.zero_grad()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
        steps += 1
        if torch.isfinite(value) and torch.isfinite(norm):
            optimizer.step()
        else:
            skipped += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - min(recipe.ema, steps / (9 + steps)))
        share = (time.perf_counter() - start) / seconds
        if share >= min(1.0, (len(nlls) + 1) / recipe.validations):
            nlls.append(with_weights(module, weights, average, validate))
            if nlls[-1] < best_nll:
                best_nll, best_share = nlls[-1], share
                best = [w.clone() for w in average]
            share = (time.perf_counter() - start) / seconds
    copy(best, weights)
    return {
        "seconds": time.perf_counter() - start,
        "steps": steps,
        "skipped_steps": skipped,
        "batch": recipe.batch,
        "learning_rate": recipe.learning_rate,
        "parameters": sum(w.numel() for w in weights),
        "best_share": best_share,
        "best_validation_nll": best_nll,
        "last_validation_nll": nlls[-1],
    }


def with_weights(
    module: torch.nn.Module,
    weights: list[torch.nn.Parameter],
    other: list[torch.Tensor],
    validate: Callable[[], float],
) -> float:
    """What `validate` returns with other weights, in evaluation mode."""
    own = [w.detach().clone() for w in weights]
    copy(other, weights)
    module.eval()
    value = validate()
    module.train()
    copy(own, weights)
    return value


def copy(source: list[torch.Tensor], target: list[torch.nn.Parameter]) -> None:
    with torch.no_grad():
        for a, b in zip(source, target, strict=True):
            b.copy_(a)

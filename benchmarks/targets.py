"""How much noise do posterior means over reference rows leave in the targets, by σ?

    python benchmarks/targets.py DATA_DIR --out targets.json

Every table is DATA_DIR/NAME.npz with x_train. At each σ, training rows are diffused in the
coordinates of a default fit, and the targets of orders 1, 2 and 3 (along one probe) are compared
with those over all rows, which have no noise. Reported for 0 (a single draw), 256, 1024 and 4096
reference rows: the mean squared deviation, relative to a single draw's, at each σ and summed over
σ equally spaced in its logarithm. ŝ1 and ŝ2 are the scores over all rows, as near the end of a
training without generalisation.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from scoreode.calculus import Rademacher
from scoreode.data import sources
from scoreode.model.build import prepare
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.objective.targets import Cumulants, Diffused, PosteriorMean, Reference, of_draw

TABLES = "kin40k,power_head48k,protein,tamielectric"
SIZES = (0, 256, 1024, 4096)


def standard_rows(file: Path) -> jax.Array:
    """The training rows as the network gets them."""
    data = sources.load_data(str(file))
    _, density = prepare(for_table(*data.train.shape, process=PROCESSES["ve"], steps=1), data)
    return jnp.asarray(density.bijection.forward(np.asarray(data.train, np.float64))[0])


def targets(known: Cumulants, all_rows: Cumulants, v: jax.Array) -> tuple[jax.Array, ...]:
    """The targets of orders 1, 2, 3 with scores that are those over all rows."""
    l1 = known.mean - all_rows.mean
    a = l1 @ v
    L_v = all_rows.second[0] - known.second
    second = a * l1 + known.second
    third = (a**2 - jnp.sum(v * L_v)) * l1 - 2 * a * L_v + known.third
    return known.mean, jnp.ravel(second), jnp.ravel(third)


@jax.jit
def deviations(rows: jax.Array, key: jax.Array, sigma: jax.Array) -> jax.Array:
    """Squared deviations from the targets over all rows, by size and order."""
    keys = jr.split(key, 4)
    d = rows.shape[1]
    x_0 = rows[jr.randint(keys[0], (), 0, len(rows))]
    eps, probe = jr.normal(keys[1], (d,)), Rademacher().draw(keys[2], 1, d, rows.dtype)
    drawn = rows[jr.randint(keys[3], (max(SIZES),), 0, len(rows))]

    def over(reference: jax.Array) -> Cumulants:
        at = Diffused(x_0, eps, 1 / sigma)
        return PosteriorMean().cumulants(at, Reference(reference), probe, 3)

    # The own row is among all rows: far away here, as it counts by itself.
    own = jnp.all(rows == x_0, 1)
    all_rows = over(jnp.where(own[:, None], 1e6, rows))
    truth = targets(all_rows, all_rows, probe.vectors[0])
    found = []
    for size in SIZES:
        known = over(drawn[:size]) if size else of_draw(eps)
        got = targets(known, all_rows, probe.vectors[0])
        found.append([jnp.sum((a - b) ** 2) for a, b in zip(got, truth, strict=True)])
    return jnp.asarray(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default=TABLES)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("targets.json"))
    args = parser.parse_args()
    sigmas = np.geomspace(0.01, 10, 19)
    results: dict[str, Any] = {"sigmas": sigmas.tolist(), "sizes": SIZES, "tables": {}}
    for table in args.tables.split(","):
        rows = standard_rows(args.folder / f"{table}.npz")
        by_sigma = []
        for sigma in sigmas:
            keys = jr.split(jr.key(0), args.examples)
            by_example = [deviations(rows, key, jnp.float32(sigma)) for key in keys]
            by_sigma.append(np.mean(np.asarray(by_example), 0))
        noise = np.asarray(by_sigma)  # (σ, size, order)
        total = noise.sum(0) / noise.sum(0)[0]
        share = noise / np.maximum(noise[:, :1], 1e-12)
        results["tables"][table] = {
            "total": total.round(3).tolist(),
            "by_sigma": share.round(3).tolist(),
            "draw": noise[:, 0].round(4).tolist(),
        }
        print(table, dict(zip(SIZES, total.round(3).tolist(), strict=True)), flush=True)
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

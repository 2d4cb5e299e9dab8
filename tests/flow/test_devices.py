"""Rows split over several devices: the same values, and nobody hangs on another's steps."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import jax, sys
import jax.numpy as jnp, jax.random as jr, numpy as np
jax.config.update("jax_enable_x64", True)
from catalogue import mixture
from scoreode.flow import Likelihood, Refined, Solver, map_rows
from scoreode.calculus import Rademacher
from scoreode.process import VE

process = VE(0.01, 20.0)
oracle = mixture(process, 2)
# Rows far out take many more steps than the others: all of them are on one device.
x = np.concatenate([30.0 * np.ones((8, 2)), np.asarray(oracle.sample(jr.key(1), 101))])
shared = oracle, process, jr.key(0)
adaptive = Likelihood(Rademacher(), 2, Solver(1e-6, 1e-6))
refined = Refined(n_steps=24, probe=Rademacher(), n_probes=2, stderr=0.5, chunk=16)
records = map_rows(adaptive, shared, (x,), 16), refined(*shared, x)
assert len(jax.devices()) == int(sys.argv[1])
assert all(record.converged.all() for record in records)
np.savez(sys.argv[2], *(getattr(r, name) for r in records for name in ("nats", "nfe", "latent")))
"""


def found(devices: int, path: Path) -> list[np.ndarray]:
    tests = Path(__file__).parents[1]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(tests)}
    command = [sys.executable, "-c", SCRIPT, str(devices), str(path)]
    subprocess.run(command, check=True, env=environment, timeout=300)
    with np.load(path) as arrays:
        return list(arrays.values())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return found(1, tmp_path_factory.mktemp("alone") / "found.npz")


@pytest.mark.slow
def test_four_devices_have_the_values_of_one(alone, tmp_path):
    for a, b in zip(alone, found(4, tmp_path / "found.npz"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    _, nfe, *_ = alone
    assert nfe[:8].min() > nfe[8:].max()

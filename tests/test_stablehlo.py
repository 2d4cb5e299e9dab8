"""Compiled functions: the values of the density, in a process that has JAX and NumPy alone."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from gaussian import C_MEAN, C_SCALE, conditional_gaussian, gaussian, moments
from scipy import stats

from scoreode.adapters import loader, stablehlo
from scoreode.data.kinds import Category
from scoreode.errors import InputError
from scoreode.flow import GridLikelihood
from scoreode.model.simple import fit_mixture, fit_tail
from scoreode.model.stack import Stack
from scoreode.model.standardise import Chain, Scaling
from scoreode.train import RunFolder

FAR = np.array([1e6, 0.0])  # where float32 has steps of a sixteenth
ELSEWHERE = """
import json, sys
class Missing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {"scoreode", "equinox", "diffrax", "jaxtyping", "sklearn"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
sys.path.insert(0, sys.argv[1])
import numpy as np
from load import load
model, given = load(), np.load(sys.argv[2])
inputs = [given[name] for name in ("x", "c") if name in given]
np.savez(
    sys.argv[3],
    nats=model.log_density(*inputs),
    score=model.score(*inputs),
    draws=model.sample(3, np.arange(len(inputs[0])), *inputs[1:]),
)
"""


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(120, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]) + 3


def exported(fitted, folder):
    """The folder and its manifest."""
    pytest.importorskip("flatbuffers")
    return folder, stablehlo.export(fitted, RunFolder.create(folder))


def elsewhere(folder, **given):
    """What the functions give in a process without this package and what it is made of."""
    np.savez(folder / "given.npz", **given)
    paths = folder, folder / "given.npz", folder / "found.npz"
    words = [sys.executable, "-c", ELSEWHERE, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "found.npz")


@pytest.mark.slow
def test_a_density_elsewhere(X, tmp_path):
    fitted = gaussian(X + FAR).fitted_
    folder, manifest = exported(fitted, tmp_path / "deployed")
    assert {file.name for file in folder.iterdir()} == {
        *(f"{name}.bin" for name in ("log_density", "score", "sample")),
        "manifest.json",
        "load.py",
    }
    assert manifest["columns"] == list(fitted.data.columns)
    assert manifest["error"]["largest_difference_in_nats"] < 1e-4
    x = np.tile(X + FAR, (3, 1))[:300]  # more than a block
    found = elsewhere(folder, x=x)
    native = fitted.density.log_likelihood(x, how=GridLikelihood())
    np.testing.assert_allclose(found["nats"], native.nats, atol=2e-5)
    np.testing.assert_allclose(found["score"], fitted.density.score(x), atol=1e-4)
    np.testing.assert_allclose(found["draws"], fitted.sample(300, 3), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_conditional_density_elsewhere(tmp_path):
    fitted = conditional_gaussian()
    folder, manifest = exported(fitted, tmp_path / "deployed")
    assert manifest["conditions"] == ["a", "b", "c"]
    c = C_MEAN + C_SCALE * np.random.default_rng(1).normal(size=(5, 3))
    mean, deviation = moments(c)
    x = mean + 0.5 * deviation
    found = elsewhere(folder, x=x, c=c)
    np.testing.assert_allclose(
        found["nats"], stats.norm(mean, deviation).logpdf(x).sum(1), atol=2e-3
    )
    np.testing.assert_allclose(found["draws"], fitted.sample(5, 3, c=c), rtol=1e-4)


@pytest.mark.slow
def test_a_stack_is_traced(X):
    """Without serialisation, which needs flatbuffers."""
    fitted = gaussian(X).fitted_
    tail = fit_tail(Chain((Scaling.identity(2),)), X)
    mixture = fit_mixture(fitted.density.bijection, X, 2)
    stack = Stack((fitted.density,), (tail, mixture), np.array([0.5, 0.3, 0.2]))
    functions = stablehlo.functions(replace(fitted, stack=stack))
    assert all(set(f.platforms) == set(stablehlo.PLATFORMS) for f in functions.values())
    seeds, numbers = np.full(500, 1, np.uint32), np.arange(500, dtype=np.uint32)
    with jax.enable_x64(True):
        nats, score = (np.asarray(functions[f].call(X)) for f in ("log_density", "score"))
        draws = np.asarray(functions["sample"].call(seeds, numbers))
    np.testing.assert_allclose(nats, stack.log_likelihood(X, how=GridLikelihood()).nats, atol=2e-5)
    np.testing.assert_allclose(score, stack.score(X), atol=1e-4)
    own = stack.sample(500, 2)
    assert stats.ks_2samp(draws[:, 0], own[:, 0]).pvalue > 1e-3
    assert stats.ks_2samp(draws @ [1, -1], own @ [1, -1]).pvalue > 1e-3


def test_a_newer_version_is_refused(tmp_path):
    manifest = {"version": loader.VERSION + 1, "functions": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"version 2, and this loader reads up to 1; use the load"):
        loader.load(tmp_path)


def test_what_cannot_be_written(tmp_path, monkeypatch):
    fitted, folder = conditional_gaussian(), RunFolder.create(tmp_path / "deployed")
    levels = replace(fitted.data, kinds={"b": Category(("low", "high"), "text")})
    with pytest.raises(InputError, match="conditions b are categories"):
        stablehlo.export(replace(fitted, data=levels), folder)
    counts = replace(fitted.data, bin_width=(1.0, 0.0), bin_edge=(0.0, 0.0))
    with pytest.raises(InputError, match="discrete columns: they have no density"):
        stablehlo.export(replace(fitted, data=counts), folder)
    monkeypatch.setattr(stablehlo, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"flatbuffers is not installed.*scoreode\[stablehlo\]"):
        stablehlo.export(fitted, folder)
    assert not list(folder.path.iterdir())

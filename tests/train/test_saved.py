"""A run folder of version 0.1.0: dequantisation was a string, and there were no radii."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from scoreode import ScoreODE
from scoreode.errors import InputError
from scoreode.model.learnt_noise import LearntNoise
from scoreode.network import MLP
from scoreode.train import RunFolder, saved

OLD = Path(__file__).parent / "run-0.1.0"


def test_every_weight_is_loaded_bit_by_bit():
    fitted = saved.load(OLD)
    leaves = jax.tree.leaves(fitted.density)
    arrays = [np.asarray(leaf) for leaf in leaves if isinstance(leaf, jax.Array | np.ndarray)]
    stored = load_file(OLD / "model.safetensors").values()
    assert sorted(a.tobytes() for a in arrays) == sorted(a.tobytes() for a in stored)


def test_rows_have_the_log_masses_that_they_had():
    rows = pl.read_csv(OLD / "rows.csv").to_numpy()
    expected = pl.read_csv(OLD / "expected.csv")
    found = saved.load(OLD).log_likelihood(rows.astype(np.float64))
    # Equal to the last bit where they were computed; processors differ in the order of sums.
    np.testing.assert_allclose(found.nats, expected["nats"], rtol=1e-5)
    np.testing.assert_array_equal(found.nfe, expected["nfe"])


def test_what_it_says_of_itself():
    run, data = saved.read_config(RunFolder.existing(OLD))
    assert run.dequantise == LearntNoise(MLP(width=64, depth=2))
    assert run.radius is None
    assert (data.columns, data.bin_width) == (("a", "b", "visits"), (0.0, 0.0, 1.0))
    assert RunFolder.existing(OLD).command is None
    est = ScoreODE.load(OLD)
    assert est.get_params()["dequantise"] == "variational"
    assert est.feature_names_in_.tolist() == ["a", "b", "visits"]
    assert est.sample(5).shape == (5, 3)


@pytest.mark.parametrize("key", ["name", "columns", "n_train", "fingerprint"])
def test_a_description_that_lacks_what_every_version_wrote(tmp_path, key):
    shutil.copytree(OLD, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    del config["data"][key]
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: not the configuration of a run"):
        saved.load(tmp_path / "run")

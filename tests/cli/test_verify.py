"""`scoreode verify` and `reproduce mog`: what they print and leave behind."""

import importlib
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from scoreode.data import sources
from scoreode.evaluate import verify
from scoreode.network import MLP
from scoreode.reproduce import paper


@pytest.fixture(scope="module")
def on_mixture(cli, tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("verify") / "run"
    assert cli("fit", "mixture", *tiny, "--steps", 40, "--out", run).code == 0
    return run


@pytest.mark.slow
def test_a_known_truth_is_compared_with(cli, on_mixture, monkeypatch):
    monkeypatch.setattr(verify, "_PATHS", 8)
    coarse = partial(verify.sde_density, n_cells=1000, n_steps=500)
    monkeypatch.setattr(verify, "sde_density", coarse)
    result = cli("verify", on_mixture, "-n", 16, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert set(found) == {"exact and bound", "objectives", "itself", "theorem 1", "theorem 2"}
    one, both = found["theorem 1"], found["exact and bound"]
    difference = np.subtract(both["J_Diff"], one["J_Diff"])[0]
    assert abs(difference) < 5 * np.hypot(both["J_Diff"][1], one["J_Diff"][1])
    assert both["J_Diff"][0] == pytest.approx(both["nll"][0] - both["sde_bound"][0])
    assert one["unconverged"] == 0
    assert abs(one["difference"][0]) < 5 * one["difference"][1]
    assert one["kl_0_sde"] < one["sde_bound"][0] + 5 * one["sde_bound"][1]
    assert one["kl_0"][0] < one["cauchy_schwarz"][0] + 5 * one["cauchy_schwarz"][1]
    two = found["theorem 2"]
    assert two["r_above_u"] == 0
    assert np.all(np.array(two["D_F"]) <= np.array(two["E[U^2]"]) * (1 + 1e-3))


@pytest.mark.slow
def test_other_data_are_measured_by_themselves(cli, trained, table):
    result = cli("verify", trained, table, "-n", 32, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert set(found) == {"exact and bound", "objectives", "itself"}
    assert found["itself"]["unconverged"] == 0
    assert found["itself"]["round_trip_distance"][0] < 1e-2
    readable = cli("verify", trained, table, "-n", 32)
    assert readable.code == 0
    assert "asymmetry" in readable.out


@pytest.mark.slow
def test_mog_writes_a_summary_and_figures(cli, tmp_path, monkeypatch):
    module, whole = importlib.import_module("scoreode.reproduce.mog"), paper.mog
    small = lambda order, **chosen: replace(  # noqa: E731
        whole(order, **chosen), steps=4, batch_size=16, network=MLP(width=8, depth=1)
    )
    monkeypatch.setattr(paper, "mog", small)
    monkeypatch.setattr(module, "ORDERS", (1, 3))
    for name, value in {"_DRAWS": 512, "_TEST_ROWS": 50, "_TIMES": 3}.items():
        monkeypatch.setattr(module, name, {True: value, False: value})
    for name, value in {"_CELLS": (300, 100), "_GRID": 100, "_MARGINALS": (0.0, 0.5)}.items():
        monkeypatch.setattr(module, name, value)
    out = tmp_path / "figure"
    result = cli("reproduce", "mog", "--quick", "--constants", "authors", "--out", out)
    assert result.code == 0, result.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["constants"] == "authors"
    assert "constants: authors: λ1 = 0.5 for J2 alone" in result.out
    config = json.loads((out / "order-3" / "config.json").read_text())
    assert config["command"] == "scoreode reproduce mog --seed 0 --quick --constants authors"
    objective = config["run"]["objective"]
    assert objective["lambda1"]["value"] == 0.25
    assert objective["process"]["sigma_max"] == pytest.approx(50 / 0.60978, abs=1e-3)
    orders = summary["orders"]
    assert set(orders) == {"1", "3"}
    for row in orders.values():
        # Barely trained: its KL is far above what 50 rows and 512 draws err by.
        assert row["kl"] == pytest.approx(row["nll"] - sources.TOYS["mixture"].entropy, abs=1.0)
        assert row["J_Fisher"] > 0
    for figure in ("densities.png", "marginals.png", "fisher.png"):
        assert (out / figure).read_bytes().startswith(b"\x89PNG")

"""The closed form behind a run, in the coordinates of its score model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from densities import DENSITIES

from scoreode.data import Description, sources
from scoreode.errors import InputError
from scoreode.evaluate.truth import is_known, oracle_of
from scoreode.model.build import prepare
from scoreode.model.defaults import for_table
from scoreode.model.fitted import Fitted
from scoreode.network import MLP
from scoreode.process import VP


def fitted(name, standardise):
    """An untrained run on a toy."""
    data = sources.load_data(name)
    run = for_table(
        *data.train.shape, process=VP(t_min=1e-8), standardise=standardise, network=MLP(8, 1)
    )
    run, density = prepare(run, data)
    return Fitted(run, density, Description.of(data), 0, 0.0, None)


@pytest.mark.slow
@pytest.mark.parametrize("standardise", ["scale", "whiten"])
@pytest.mark.parametrize("name", ["mixture", "8gaussians"])
def test_the_oracle_is_the_datas_density_through_the_standardisation(name, standardise):
    model, density = fitted(name, standardise), DENSITIES[name]()
    x = np.asarray(sources.load_data(name).test[:50], np.float64)
    z, log_det = model.density.bijection.forward(x)
    oracle = oracle_of(model)
    t = jnp.asarray(oracle.process.t_min)
    nats = jax.vmap(oracle.log_density, (0, None))(jnp.asarray(z), t) + log_det
    if name == "mixture":
        expected = np.log(density(x))
    else:
        expected = [np.log(density.on_grid(*row[:, None])[0, 0]) for row in x]
    np.testing.assert_allclose(nats, expected, atol=2e-3)


@pytest.mark.slow
def test_other_data_have_none():
    for name, standardise in (("checkerboard", "scale"), ("mixture", "power")):
        model = fitted(name, standardise)
        assert not is_known(model)
        with pytest.raises(InputError, match="no closed form"):
            oracle_of(model)

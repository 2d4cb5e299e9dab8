"""The law of categories: masses that sum to 1, known laws recovered, draws from it."""

import itertools

import numpy as np
import pytest

from scoreode.model import categories
from scoreode.model.categories import Law

LEVELS = (3, 2, 4)


def combinations(levels=LEVELS):
    return np.array(list(itertools.product(*map(range, levels))), float)


def rows(codes, g=None):
    return codes, g, np.ones(len(codes))


def draw(masses, n, seed, levels=LEVELS):
    """Codes of a law by the masses of all combinations."""
    return combinations(levels)[np.random.default_rng(seed).choice(len(masses), n, p=masses)]


def chain_law(seed=0):
    """The masses of a chain of logistic regressions."""
    rng = np.random.default_rng(seed)
    k = combinations().astype(int)
    effects = [rng.normal(size=(a, b)) for a, b in itertools.combinations(LEVELS, 2)]
    pairs = itertools.combinations(range(3), 2)
    logits = sum(e[k[:, i], k[:, j]] for e, (i, j) in zip(effects, pairs, strict=True))
    return np.exp(logits) / np.exp(logits).sum()


def rugged_law(seed=0):
    """Masses without any structure."""
    masses = np.random.default_rng(seed).dirichlet(np.full(len(combinations()), 0.3))
    return 0.99 * masses + 0.01 / len(masses)


def fit(masses, n, n_held_out=1000):
    return categories.choose(LEVELS, rows(draw(masses, n, 1)), rows(draw(masses, n_held_out, 2)))


LAWS = {
    "independent": lambda: categories.fit(LEVELS, *rows(draw(chain_law(), 60, 0)), chain=False),
    "chain": lambda: categories.fit(LEVELS, *rows(draw(chain_law(), 60, 0)), chain=True),
    "smoothed": lambda: fit(rugged_law(), 2000),
    "absent level": lambda: categories.fit(
        LEVELS, *rows(draw(chain_law(), 200, 0) * [1, 1, 0.5] // 1), chain=True
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_masses_sum_to_one(name):
    law = LAWS[name]()
    masses = np.exp(law.log_mass(combinations()))
    assert masses.min() > 0
    assert masses.sum() == pytest.approx(1, abs=1e-12)
    one = [law.log_mass(row[None])[0] for row in combinations()]
    np.testing.assert_array_equal(one, law.log_mass(combinations()))


def test_masses_sum_to_one_given_anything():
    rng = np.random.default_rng(0)
    g = rng.normal(3, 2, (500, 2))
    codes = draw(chain_law(), 500, 0)
    codes[:, 0] = np.clip(g[:, 0] // 2, 0, 2)
    law = categories.fit(LEVELS, *rows(codes, g), chain=True)
    for given in g[:5]:
        masses = np.exp(law.log_mass(combinations(), np.tile(given, (24, 1))))
        assert masses.sum() == pytest.approx(1, abs=1e-12)
    others = law.log_mass(codes, g[rng.permutation(500)])
    assert law.log_mass(codes, g).mean() > others.mean() + 0.5, "half the entropy of three levels"


@pytest.mark.parametrize("law", [chain_law, rugged_law])
def test_a_known_law_is_recovered(law):
    """The loss is about (K − 1)/2n of a table of K masses: 0.0006 nats, and ten times at most."""
    truth, n = law(), 20_000
    found = fit(truth, n)
    loss = truth @ (np.log(truth) - found.log_mass(combinations()))
    assert 0 <= loss < 10 * (len(truth) - 1) / (2 * n)


def test_what_is_chosen():
    """Columns that have nothing in common, a chain, and no structure."""
    margins = [np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.1]), np.full(4, 0.25)]
    product = np.einsum("a,b,c->abc", *margins).ravel()
    assert fit(product, 1000).says.endswith("independent columns")
    assert "chain" in fit(chain_law(), 1000).says
    assert fit(rugged_law(), 5000).kappa < np.inf


@pytest.mark.parametrize("name", ["chain", "smoothed"])
def test_draws_have_these_masses(name):
    """Pearson's X² of 24 combinations has mean 23 and variance 46; five standard deviations."""
    law, n = LAWS[name](), 50_000
    codes = law.sample(n, 5)
    expected = n * np.exp(law.log_mass(combinations()))
    numbers = codes.astype(int) @ [8, 4, 1]
    counts = np.bincount(numbers, minlength=24)
    assert np.sum((counts - expected) ** 2 / expected) < 23 + 5 * 46**0.5
    np.testing.assert_array_equal(law.sample(100, 5), codes[:100])
    assert not np.array_equal(law.sample(100, 6), codes[:100])


def test_it_is_kept_as_arrays():
    law = LAWS["smoothed"]()
    again = Law.from_arrays({name: array.copy() for name, array in law.arrays().items()})
    np.testing.assert_array_equal(again.log_mass(combinations()), law.log_mass(combinations()))
    with pytest.raises(KeyError):
        Law.from_arrays({"combinations": law.combinations})


def test_weights_are_proportions():
    """Rows of weight 3 count as three: so do the masses, but for the scale of the smoothing."""
    codes = np.tile(combinations(), (200, 1))
    weights = np.where(codes[:, 1] == 1, 3.0, 1.0)
    for chain in (False, True):
        law = categories.fit(LEVELS, codes, None, weights, chain=chain)
        masses = np.exp(law.log_mass(combinations()))
        assert masses[combinations()[:, 1] == 1].sum() == pytest.approx(0.75, abs=1e-3)

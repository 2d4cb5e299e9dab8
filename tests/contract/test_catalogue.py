"""No member of the package's families goes untested."""

import importlib
import pkgutil

import catalogue
import pytest

import scoreode
from scoreode import process, score, standardise
from scoreode.calculus import probes
from scoreode.data import toy
from scoreode.objective import weighting

FAMILIES = {
    process.AbstractProcess: {type(make()) for make in catalogue.PROCESSES.values()},
    probes.AbstractProbe: {type(make()) for make in catalogue.PROBES.values()},
    weighting.AbstractWeighting: {type(w.make()) for w in catalogue.WEIGHTINGS.values()},
    score.AbstractParametrisation: {type(p.make()) for p in catalogue.PARAMETRISATIONS.values()},
    toy.AbstractToy: {type(make()) for make in catalogue.TOYS.values()},
    standardise.AbstractBijection: {
        family for families in catalogue.BIJECTIONS.values() for family in families
    },
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_member_is_listed(family):
    for module in pkgutil.walk_packages(scoreode.__path__, "scoreode."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # Tests define members of their own, which are not the package's to list.
    members = {m for m in family.__subclasses__() if m.__module__.startswith("scoreode.")}
    assert members - FAMILIES[family] == set()
    assert all(not member.__subclasses__() for member in members), "a class is abstract or final"

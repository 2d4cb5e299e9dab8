"""No member of the package's families goes untested."""

import importlib
import inspect
import pkgutil

import catalogue
import pytest

import scoreode
from scoreode import process, score
from scoreode.calculus import probes
from scoreode.data import toy
from scoreode.model import standardise
from scoreode.objective import targets, weighting
from scoreode.process import VE

FAMILIES = {
    process.AbstractProcess: {type(make()) for make in catalogue.PROCESSES.values()},
    probes.AbstractProbe: {type(make()) for make in catalogue.PROBES.values()},
    weighting.AbstractWeighting: {type(w.make()) for w in catalogue.WEIGHTINGS.values()},
    targets.AbstractTargets: {type(make(VE()).targets) for make in catalogue.OBJECTIVES.values()},
    targets.AbstractNoise: {type(make(VE()).noise) for make in catalogue.OBJECTIVES.values()},
    score.AbstractParametrisation: {type(p.make()) for p in catalogue.PARAMETRISATIONS.values()},
    toy.AbstractToy: {type(make()) for make in catalogue.TOYS.values()},
    standardise.AbstractBijection: {
        *(family for families in catalogue.BIJECTIONS.values() for family in families),
        standardise.Support,  # of declared columns: tests/model/test_support.py
    },
}


OPTIONAL = {"adapters.torch", "adapters.torch_support"}  # PyTorch need not be there


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_member_is_listed(family):
    for module in pkgutil.walk_packages(scoreode.__path__, "scoreode."):
        if module.name.endswith("__main__") or module.name.removeprefix("scoreode.") in OPTIONAL:
            continue
        importlib.import_module(module.name)
    assert final_members(family) - FAMILIES[family] == set()


def final_members(family):
    """The package's classes below an abstract one; a class is abstract or final."""
    final = set()
    for member in family.__subclasses__():
        if inspect.isabstract(member):
            final |= final_members(member)
        elif member.__module__.startswith("scoreode."):  # tests define members of their own
            assert not member.__subclasses__(), "a class is abstract or final"
            final.add(member)
    return final

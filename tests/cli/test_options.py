"""Options that are said in several places say the same: the command, the estimator, a run."""

import inspect
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from scoreode import ScoreODE
from scoreode.cli import evaluation, models, names, training
from scoreode.cli.options import FitOptions
from scoreode.evaluate.quality import FEATURES
from scoreode.model.config import DEQUANTISATIONS, SAMPLERS, Run
from scoreode.model.defaults import options_among
from scoreode.reproduce import table1

OPTIONS = {field.name: field.default for field in fields(FitOptions)}


def defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def test_the_command_has_every_option_with_its_default():
    command = defaults(training.fit)
    assert {name: command[name] for name in OPTIONS} == OPTIONS


def test_the_estimator_has_the_same_defaults():
    estimator = defaults(ScoreODE.__init__)
    shared = {"order", "steps", "seconds", "batch_size", "learning_rate", "n_probes", "process"}
    shared |= {
        "n_reference",
        "weight_decay",
        "smoothing",
        "standardise",
        "validation_fraction",
        "patience",
        "dequantise",
    }
    assert shared <= estimator.keys() & OPTIONS.keys()
    for name in shared:
        assert estimator[name] == OPTIONS[name], name


def test_what_an_option_defaults_to_is_the_default_of_a_run():
    run = {field.name: field.default for field in fields(Run)}
    for name in options_among(OPTIONS):
        if OPTIONS[name] is not None and name in run and name != "dequantise":
            assert OPTIONS[name] == run[name], name
    assert run["dequantise"].name == OPTIONS["dequantise"]


def choices(command: Any, option: str) -> set[Any]:
    hint = get_type_hints(command)[option]
    literals = [hint, *get_args(hint)]
    return {value for kind in literals if get_origin(kind) is Literal for value in get_args(kind)}


@pytest.mark.parametrize(
    ("command", "option", "expected"),
    [
        (training.fit, "dequantise", set(DEQUANTISATIONS)),
        (training.fit, "validation", {"bound", "exact"}),
        (training.fit, "order", {"auto", 1, 2, 3}),
        (models.sample, "method", {"ode", *SAMPLERS}),
        (names.reproduce, "preset", set(table1.PRESETS)),
        (evaluation.nll, "split", {"train", "validation", "test"}),
        (evaluation.quality, "features", set(FEATURES)),
    ],
)
def test_the_command_offers_what_the_code_has(command, option, expected):
    assert choices(command, option) == expected

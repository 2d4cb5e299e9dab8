"""What an adapter can evaluate: models that have a density, and no masses beside it."""

from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from scoreode.data.kinds import Category
from scoreode.errors import InputError
from scoreode.model.fitted import Fitted
from scoreode.train import saved


def continuous(model: Any) -> Fitted:
    """The trained density of a fitted `ScoreODE`, of a run's folder, or as it is.

    **Raises:** `InputError` for categories and discrete columns, which have no density, for rows
    with missing values, and for a folder that holds no run.
    """
    if isinstance(model, str | Path):
        fitted = saved.load(Path(model))
    elif isinstance(model, Fitted):
        fitted = model
    else:
        check_is_fitted(model)
        fitted = model.fitted_
    if fitted.data.categories:
        raise InputError(
            "the model has categories: they have no density; fit it without them, or given them"
        )
    if fitted.data.has_roles:
        raise InputError("the model is of rows with missing values; fit it to whole rows")
    if fitted.dequantisation is not None:
        raise InputError(
            "the model has discrete columns: they have no density; fit it without them"
        )
    return fitted


def check_numbers(fitted: Fitted) -> None:
    """Raises `InputError` if some of the conditions are categories, which arrays do not hold."""
    kinds = fitted.data.kinds
    levels = [name for name in fitted.data.conditions if isinstance(kinds.get(name), Category)]
    if levels:
        raise InputError(
            f"the conditions {', '.join(levels)} are categories: arrays hold numbers; fit the model"
            " given indicators in their place"
        )

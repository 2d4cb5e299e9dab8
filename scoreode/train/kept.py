"""The training rows that a model keeps, for `anomaly_score` to compare others with."""

from scoreode.data import Dataset, Stored
from scoreode.errors import InputError
from scoreode.model.anomaly import NoisyDensity
from scoreode.model.build import decisive_rows
from scoreode.train.stacking import all_rows

_MOST = 5000  # rows
_MOST_VALUES = 2**22  # 32 MiB


def keep_rows(data: Dataset) -> NoisyDensity | None:
    """At most 5000 rows of a table of numbers, of few with those for validation.

    None of images, endless draws, and tables with categories, conditions or gaps.
    """
    numbers = data.columns and data.image_shape is None and data.sampler is None
    if not numbers or data.conditions is not None or data.has_roles:
        return None
    few = len(data.train) < _MOST and not isinstance(data.train, Stored)
    rows, _ = decisive_rows(all_rows(data) if few else data)
    try:
        return NoisyDensity.of(rows, most=min(_MOST, max(1, _MOST_VALUES // rows.shape[1])))
    except InputError:  # a column varies in rows that do not decide
        return None

"""Data: toy densities with exact samplers, tables and images from files, the bundled digits."""

from scoreode.data.beyond import Beyond, beyond
from scoreode.data.dataset import (
    Conditions,
    Dataset,
    Origin,
    check_varied,
    condition_on,
    digits,
    flat,
    from_images,
    from_rows,
    from_sampler,
    named_columns,
    split,
    split_columns,
)
from scoreode.data.description import Description
from scoreode.data.domains import NO_SUPPORT, Circle, Interval, Support
from scoreode.data.grids import Discrete, bin_widths, check_grid, on_grid
from scoreode.data.stored import Stored
from scoreode.data.support import check_inside, declare, keep_inside, on_support

__all__ = [
    "NO_SUPPORT",
    "Beyond",
    "Circle",
    "Conditions",
    "Dataset",
    "Description",
    "Discrete",
    "Interval",
    "Origin",
    "Stored",
    "Support",
    "beyond",
    "bin_widths",
    "check_grid",
    "check_inside",
    "check_varied",
    "condition_on",
    "declare",
    "digits",
    "flat",
    "from_images",
    "from_rows",
    "from_sampler",
    "keep_inside",
    "named_columns",
    "on_grid",
    "on_support",
    "split",
    "split_columns",
]

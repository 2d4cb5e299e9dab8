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
from scoreode.data.grids import Discrete, bin_widths, check_grid, on_grid
from scoreode.data.stored import Stored

__all__ = [
    "Beyond",
    "Conditions",
    "Dataset",
    "Description",
    "Discrete",
    "Origin",
    "Stored",
    "beyond",
    "bin_widths",
    "check_grid",
    "check_varied",
    "condition_on",
    "digits",
    "flat",
    "from_images",
    "from_rows",
    "from_sampler",
    "named_columns",
    "on_grid",
    "split",
    "split_columns",
]

"""Data: toys with exact samplers, tables and images from files, the bundled digits."""

from scoreode.data.dataset import (
    Dataset,
    check_columns,
    check_grid,
    digits,
    from_images,
    from_rows,
    from_sampler,
    on_grid,
    split,
)

__all__ = [
    "Dataset",
    "check_columns",
    "check_grid",
    "digits",
    "from_images",
    "from_rows",
    "from_sampler",
    "on_grid",
    "split",
]

"""Data: toys with exact samplers, tables from files, the bundled digits."""

from scoreode.data.dataset import Dataset, check_columns, digits, from_rows, from_sampler, split

__all__ = ["Dataset", "check_columns", "digits", "from_rows", "from_sampler", "split"]

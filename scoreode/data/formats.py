"""Kinds of files that hold named columns. To add one, write its function and name it here."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scoreode.data import text

Content = Path | bytes | list[Path]
"""A file, the text of standard input, or the parts of a table in a folder."""


def scan_text(separator: str, content: Content, name: str, as_text: Sequence[str] = ()) -> Any:
    """Separated values with a header, as a polars LazyFrame.

    **Arguments:** `as_text`, columns whose fields are kept as they are written.
    """
    import polars as pl

    assert not isinstance(content, list)
    options = text.options(content, name, separator)
    first = pl.read_csv(content, has_header=False, n_rows=1, infer_schema=False, **options)
    text.check_header(first.row(0), name)
    # All rows decide a column's type, so that text in the last row is reported.
    schema = pl.scan_csv(content, infer_schema_length=None, **options).collect_schema()
    written = {column: pl.String for column in as_text if column in schema}
    return pl.scan_csv(content, schema={**schema, **written}, **options)


def scan_parquet(content: Content, _name: str) -> Any:
    """A Parquet file, or parts of one table, as a polars LazyFrame."""
    import polars as pl

    parts = content if isinstance(content, list) else [content]
    return pl.concat([pl.scan_parquet(part) for part in parts], how="vertical_relaxed")


def scan_arrow(content: Content, _name: str) -> Any:
    """An Arrow IPC file, also called Feather (version 2), as a polars LazyFrame."""
    import polars as pl

    assert isinstance(content, Path)
    return pl.scan_ipc(content)


TEXTS: dict[str, Callable[..., Any]] = {
    ".csv": partial(scan_text, ","),
    ".csv.gz": partial(scan_text, ","),
    ".tsv": partial(scan_text, "\t"),
    ".tsv.gz": partial(scan_text, "\t"),
}
"""Those of text, whose columns have no types; they take `as_text`, too."""
FRAMES: dict[str, Callable[[Content, str], Any]] = {
    **TEXTS,
    ".parquet": scan_parquet,
    ".arrow": scan_arrow,
    ".feather": scan_arrow,
}
"""A function for every suffix: the content, and its name for messages, to a polars LazyFrame."""

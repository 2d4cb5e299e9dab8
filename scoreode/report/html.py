"""A page in one HTML file: sections of text, tables, charts and pictures.

Names given by a user are escaped. The browser draws the charts from numbers in the page. The page's
security policy forbids it to load anything and to run any script but its own.
"""

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from scoreode._files import replace_whole

_FILES = resources.files("scoreode.report") / "assets"


@dataclass(frozen=True)
class Text:
    """A paragraph, a heading within a section, or a note about missing content."""

    text: str
    kind: str = "text"
    block: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """Rows of "numbers" or "facts" under a head; the first cell of a row is its name.

    In a row of two cells, the second cell spans all columns.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "numbers"
    block: ClassVar[str] = "table"


@dataclass(frozen=True)
class Fold:
    """Preformatted text, such as commands, that can be unfolded."""

    title: str
    text: str
    open: bool = False
    block: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Picture:
    """A figure with a caption; a wide one takes a whole row."""

    title: str
    figure: Figure
    wide: bool = False

    @property
    def uri(self) -> str:
        """The figure as a PNG in a data: URI."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, dpi=120, transparent=True, metadata={"Software": None})
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Pictures:
    """Figures side by side, as many as fit."""

    pictures: Sequence[Picture]
    block: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Curve:
    """y over x: a "line", "dots", the "steps" of a histogram, or a "band" from `low` to y.

    For steps, x are the edges of the bins. x may be a mapping of names to several choices. The
    curve has the colour of the run with number `run`, and is shown or hidden with it; None for a
    reference curve.
    """

    x: Mapping[str, np.ndarray] | np.ndarray
    y: np.ndarray
    kind: str = "line"
    run: int | None = None
    low: np.ndarray | None = None


@dataclass(frozen=True)
class Chart:
    """Curves on common axes; `log` says which axes are logarithmic: "", "x", "y" or "xy".

    `note` describes data that the chart does not show.
    """

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log: str = ""
    note: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side; `controls` are the names of x to choose from."""

    charts: Sequence[Chart]
    controls: Sequence[str] = ()
    block: ClassVar[str] = "charts"


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    blocks: Sequence[Any]


def render(
    title: str,
    runs: Sequence[str],
    headline: Sequence[str],
    sections: Sequence[Section],
    written: str,
) -> str:
    """The page as HTML.

    **Arguments:** `title`; `runs`, their labels; `headline`, lines with the main results;
    `sections`; `written`, the footer: when and with which versions the page was written.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    style, script = (_text(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    charts = [chart for part in sections for block in part.blocks for chart in _charts(block)]
    return environment.get_template("page.html").render(
        title=title,
        runs=runs,
        headline=headline,
        sections=sections,
        written=written,
        style=style,
        script=script,
        digest=digest,
        data={"runs": list(runs), "charts": [_plain(vars(chart)) for chart in charts]},
    )


def _text(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _charts(block: Any) -> Sequence[Chart]:
    return block.charts if isinstance(block, Charts) else ()


def _plain(value: Any) -> Any:
    """The value for JSON, which has neither arrays nor nan."""
    match value:
        case Mapping():
            return {key: _plain(entry) for key, entry in value.items()}
        case Curve():
            return _plain(vars(value))
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case np.ndarray():
            return [float(f"{x:.6g}") if math.isfinite(x) else None for x in value.tolist()]
    return value


def write(path: Path, page: str) -> None:
    """Writes a page. **Raises:** `FailureError` if the disk refuses."""
    with replace_whole(path) as partial:
        partial.write_text(page, encoding="utf-8")

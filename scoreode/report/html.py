"""A page in one HTML file: sections of text, tables, charts and pictures, and nothing from outside.

Whatever a user named is escaped. Charts are drawn in the browser from numbers in the page; the page
forbids itself to load anything, and to run any script but its own.
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

from scoreode._files import replaced

_FILES = resources.files("scoreode.report") / "assets"


@dataclass(frozen=True)
class Text:
    """A paragraph, or a heading within a section, or a note of what is missing."""

    text: str
    kind: str = "text"
    block: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """Rows of "numbers" or "facts" under a head; the first cell of a row names it.

    A second cell that is the last is that of all columns.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "numbers"
    block: ClassVar[str] = "table"


@dataclass(frozen=True)
class Fold:
    """Text as it is, such as commands, that opens on demand."""

    title: str
    text: str
    open: bool = False
    block: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Picture:
    """A figure with a caption; a wide one has a row of its own."""

    title: str
    figure: Figure
    wide: bool = False

    @property
    def uri(self) -> str:
        """The figure as a data: address of a PNG."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, dpi=120, transparent=True, metadata={"Software": None})
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Pictures:
    """Figures side by side, as many as there is room for."""

    pictures: Sequence[Picture]
    block: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Curve:
    """y over x: a "line", "dots", the "steps" of a histogram (x its edges), or a "band" about y.

    `run` is the number of the run whose colour it has, and with which it is shown or hidden; None
    for what all are compared with. x may be a choice of several by name.
    """

    x: Mapping[str, np.ndarray] | np.ndarray
    y: np.ndarray
    kind: str = "line"
    run: int | None = None
    low: np.ndarray | None = None


@dataclass(frozen=True)
class Chart:
    """Curves on common axes; `log` names those that are logarithmic: "", "x", "y" or "xy".

    `note` says what is not drawn.
    """

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log: str = ""
    note: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side; with controls, of what is drawn and over which of several x."""

    charts: Sequence[Chart]
    controls: Sequence[str] = ()
    block: ClassVar[str] = "charts"


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    blocks: Sequence[Any]


def rendered(
    title: str,
    runs: Sequence[str],
    headline: Sequence[str],
    sections: Sequence[Section],
    written: str,
) -> str:
    """The page. `runs` are their labels; `headline` says in lines what was found; `written` says
    by what it was written, and when."""
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
    """For JSON, which has no arrays and no nan."""
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
    """Writes a page. **Raises:** `FailureError` where the disk refuses."""
    with replaced(path) as partial:
        partial.write_text(page, encoding="utf-8")

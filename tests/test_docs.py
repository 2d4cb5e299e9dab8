"""Every block of code in the README and the documentation runs.

The Python blocks of a page share one namespace, and its shell blocks one folder, in the order of
the page. A page may use `X`, rows of two columns, and the files of `given`; all else it makes.

What takes long is left out, which the pages do not show: `_short` lets the estimator and `fit`
return their first weights, narrows every `MLP`, and caps the budget of a loop that a page writes
itself. Commands whose work is long, or needs files that are not here, are read and not carried out
(`READ_ONLY`): their options are checked, and their work is tested in `tests/cli`. A block that
cannot run at all has `<!-- skip: next "why" -->` above it; the last test counts them. One that
needs an optional package: `<!-- skip: next if(not has("torch"), reason="…") -->`.
"""

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pytest
from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from untrained import untrained

from scoreode.cli import main
from scoreode.cli.commands import evaluation, models, names, quality, training
from scoreode.model import defaults
from scoreode.model.defaults import FLAT_NETWORK
from scoreode.network import MLP
from scoreode.train import Budget, trainer

ROOT = Path(__file__).parent.parent
GALLERY = ROOT / "docs" / "gallery"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(GALLERY.glob("*.md"))]
NOT_RUN = 5  # blocks for clusters, which no test machine is
LANGUAGES = {"python", "sh", "console", "text", "json"}  # the last two are shown, not run
NOT_OURS = {"make", "pip", "git"}
READ_ONLY = {  # by the command's name, where its work is done
    "report": (evaluation, "report"),
    "verify": (evaluation, "verify"),
    "convert": (models, "convert"),
    "reproduce": (names, "reproduce"),
    "quality": (quality, "quality"),
}
NEEDS_FILES = "--data-dir"  # published sets of images
WORK = {
    **READ_ONLY,
    "fit": (training, "fit"),
    "nll": (evaluation, "nll"),
    "sample": (models, "sample"),
}


def shell(example: Example) -> None:
    """Every command of a block, in this process."""
    for line in str(example.parsed).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] not in NOT_OURS:
            assert words[0] == "scoreode", f"{example.path}:{example.line}: {line}"
            run(words[1:], example.namespace.setdefault("not_made", set()))


def run(words: list[str], not_made: set[str]) -> None:
    """`scoreode WORDS`, which has to succeed; its output is not made if it is only read."""
    if words[0] in READ_ONLY or NEEDS_FILES in words or not_made & set(words):
        called = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*WORK[words[0]], lambda *_, **__: called.append(words))
            assert main(words) == 0, words
        assert called, words
        not_made |= {words[i + 1] for i, word in enumerate(words) if word == "--out"}
    else:
        assert main(words) == 0, words


def console(example: Example) -> None:
    """The commands of a block that shows what they print, too."""
    lines = (line for line in str(example.parsed).splitlines() if line.startswith("$ "))
    example.parsed = "\n".join(line.removeprefix("$ ") for line in lines)
    shell(example)


PARSERS = (
    PythonCodeBlockParser(),
    CodeBlockParser("sh", shell),
    CodeBlockParser("console", console),
    SkipParser(),
)


@pytest.fixture
def _short() -> Iterator[None]:
    """No step in the front doors, eight in loops, sixteen hidden units, whatever is asked for."""

    def capped(self, steps=None, seconds=None, *_):
        budget(self, steps=min(8, steps or int(seconds)))

    def narrow(self, width=128, depth=4, n_features=0, bandwidth=1.0):
        mlp(self, min(width, 16), min(depth, 1), min(n_features, 4), bandwidth)

    with pytest.MonkeyPatch.context() as patch:
        budget, mlp = Budget.__init__, MLP.__init__
        patch.setattr(trainer, "train", untrained)
        patch.setattr(Budget, "__init__", capped)
        patch.setattr(MLP, "__init__", narrow)
        patch.setattr(defaults, "FLAT_NETWORK", replace(FLAT_NETWORK))
        yield


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A folder with `data.csv` and `test.csv`, of two columns, and `counts.csv`, of three, two of
    them whole numbers, and `new-counts.csv`; and `X`, the rows of the first."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    counts = np.c_[rng.poisson(4, (500, 2)), rows[:, 0]]
    tables = {
        "data": rows[:400],
        "test": rows[400:],
        "counts": counts[:400],
        "new-counts": counts[400:],
    }
    for name, table in tables.items():
        header = ",".join(f"column_{i}" for i in range(table.shape[1]))
        np.savetxt(f"{name}.csv", table, delimiter=",", header=header, comments="")
    return {"X": rows[:400]}


@pytest.mark.slow
@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page: Path, given: dict[str, np.ndarray]) -> None:
    document = Document.parse(str(page), *PARSERS)
    document.namespace.update(given, has=lambda package: find_spec(package) is not None)
    for example in document:
        try:
            example.evaluate()
        except SkipTest:
            continue


def test_every_block_says_what_it_is_written_in() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= LANGUAGES, page
        assert set(fences[1::2]) <= {""}, page


def test_few_blocks_cannot_run() -> None:
    marks = sum(page.read_text(encoding="utf-8").count('skip: next "') for page in PAGES)
    assert marks == NOT_RUN


def test_notebooks_are_those_of_their_pages() -> None:
    notebook = runpy.run_path(str(ROOT / "docs" / "make_gallery.py"))["notebook"]
    pages = [page for page in GALLERY.glob("*.md") if page.stem != "index"]
    assert sorted(GALLERY.glob("*.ipynb")) == sorted(page.with_suffix(".ipynb") for page in pages)
    for page in pages:
        found = page.with_suffix(".ipynb").read_text(encoding="utf-8")
        assert found == notebook(page), "write it anew: python docs/make_gallery.py --notebooks"
        blocks = Document.parse(str(page), PythonCodeBlockParser())
        cells = [
            cell["source"] for cell in json.loads(found)["cells"] if cell["cell_type"] == "code"
        ]
        assert cells == [str(example.parsed).strip() for example in blocks]

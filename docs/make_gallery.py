"""Runs the pages of the gallery as they stand; writes what they print and draw, and notebooks.

    python docs/make_gallery.py [NAME …]
    python docs/make_gallery.py --notebooks

Without names all pages run, each in a fresh process and folder. What a Python block prints replaces
the block of text behind it; pictures go to docs/figures/gallery. Pages of commands print nothing,
and only the tests run them. `--notebooks` only writes the notebooks anew, from the pages.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCS = Path(__file__).parent
PAGES = DOCS / "gallery"
FIGURES = DOCS / "figures" / "gallery"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
MARK = "--- end of block ---"


def pages() -> list[Path]:
    return sorted(path for path in PAGES.glob("*.md") if path.stem != "index")


def run(page: Path) -> None:
    """Runs the blocks of a page, and writes the text that they print into it."""
    text, began = page.read_text(encoding="utf-8"), time.perf_counter()
    blocks = BLOCK.findall(text)
    if any(language == "sh" for language, _ in blocks):
        return
    sources = [body for language, body in blocks if language == "python"]
    script = "".join(f"{source}\nprint({MARK!r}, flush=True)\n" for source in sources)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-c", script]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{page}: {done.stderr}")
        FIGURES.mkdir(exist_ok=True)
        for picture in Path(folder).glob("*.png"):
            shutil.copy(picture, FIGURES)
    page.write_text(with_output(text, done.stdout.split(f"{MARK}\n")), encoding="utf-8")
    print(f"{page.stem}: {time.perf_counter() - began:.0f} s", flush=True)


def with_output(text: str, printed: list[str]) -> str:
    """The page with what its Python blocks printed in the blocks of text behind them."""
    outputs, last = iter(printed), ""

    def fill(match: re.Match[str]) -> str:
        nonlocal last
        if match[1] == "python":
            last = next(outputs)
        return f"```text\n{last}```\n" if match[1] == "text" else match[0]

    return BLOCK.sub(fill, text)


def notebook(page: Path) -> str:
    """A page as a notebook: prose and code, without output."""
    cells, end = [], 0
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        cells.append(cell("markdown", text[end : match.start()], len(cells)))
        end = match.end()
        if match[1] == "python":
            cells.append(cell("code", match[2], len(cells)))
        elif match[1] != "text":
            cells.append(cell("markdown", match[0], len(cells)))
    cells.append(cell("markdown", text[end:], len(cells)))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    found = {
        "cells": [one for one in cells if one["source"]],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def cell(kind: str, source: str, number: int) -> dict:
    found = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source.strip()}
    return found | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="of pages, by default all")
    parser.add_argument("--notebooks", action="store_true", help="nothing else")
    args = parser.parse_args()
    chosen = [page for page in pages() if not args.names or page.stem in args.names]
    for page in chosen:
        if not args.notebooks:
            run(page)
        page.with_suffix(".ipynb").write_text(notebook(page), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Puts the tables of a benchmark into a page of the documentation, between its two marks."""

from pathlib import Path

END = "<!-- end -->"


def put(page: Path, script: str, text: str) -> None:
    """Replaces what stands between `<!-- measured: benchmarks/SCRIPT -->` and `<!-- end -->`."""
    begin = f"<!-- measured: benchmarks/{script} -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}", encoding="utf-8")

"""Takes the pictures of a report that the documentation shows; needs Chromium.

python docs/make_report.py RUN …
"""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from scoreode.cli import main

FIGURES = Path(__file__).parent / "figures"
WIDTH, MARGIN = 1120, 24
PICTURES = (("report", "light", 2, 3), ("report-calibration", "dark", 5, 5))


def screenshots(page: Path) -> None:
    """The sections on training and samples, and, in the dark theme, that on calibration."""
    chromium = os.environ.get("SCOREODE_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": 900})
        shown.goto(page.as_uri())
        shown.add_style_tag(content="#runs { position: static !important; }")
        for name, theme, first, last in PICTURES:
            shown.emulate_media(color_scheme=theme)
            top, bottom = (shown.locator(f"#section-{i}").bounding_box() for i in (first, last))
            height = bottom["y"] + bottom["height"] - top["y"] + 2 * MARGIN
            clip = {"x": 0, "y": top["y"] - MARGIN, "width": WIDTH, "height": height}
            picture = Image.open(io.BytesIO(shown.screenshot(full_page=True, clip=clip)))
            picture.quantize(method=Image.Quantize.MAXCOVERAGE).save(
                FIGURES / f"{name}.png", optimize=True
            )
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        if main(["report", *sys.argv[1:], "--out", str(path)]) == 0:
            screenshots(path)

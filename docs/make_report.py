"""Takes the pictures of a report that the documentation shows; needs Chromium.

    python docs/make_report.py RUN …
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from scoreode.cli import main

FIGURES = Path(__file__).parent / "figures"
SIZE = {"width": 1120, "height": 1000}


def screenshots(page: Path) -> None:
    """The page's top, and its section on calibration in the dark theme."""
    chromium = os.environ.get("SCOREODE_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport=SIZE, color_scheme="light")
        shown.goto(page.as_uri())
        shown.screenshot(path=FIGURES / "report.png")
        shown.emulate_media(color_scheme="dark")
        shown.locator("#runs").evaluate("(buttons) => (buttons.style.position = 'static')")
        calibration = shown.locator("section").filter(has=shown.get_by_role("heading", name="Cal"))
        calibration.screenshot(path=FIGURES / "report-calibration.png")
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        if main(["report", *sys.argv[1:], "--out", str(path)]) == 0:
            screenshots(path)

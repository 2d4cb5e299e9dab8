"""The page of `scoreode report` in a browser: it draws, obeys its buttons, and asks for nothing."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("SCOREODE_CHROMIUM") or next(
    filter(None, map(shutil.which, CANDIDATES)), None
)
FLAGS = ("no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1200, "height": 900}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install one, or name it in SCOREODE_CHROMIUM"
)


@pytest.fixture(scope="module")
def address(cli, trained, whole, tmp_path_factory):
    """The page of two runs, one of them with a name to be escaped."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(trained, folder / "runs" / "one")
    shutil.copytree(whole, folder / "runs" / "<script>alert(1)<!--")
    result = cli("report", folder / "runs", "--samples", 20, "--out", folder / "page.html")
    assert result.code == 0, result.err
    return (folder / "page.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = [f"--{flag}" for flag in FLAGS]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


@pytest.fixture
def opened(browser, address):
    """The page in a window of this size and theme; whatever it complains of or asks for fails."""
    contexts, said, asked = [], [], []

    def opened(viewport=DESK, theme="light", **options):
        context = browser.new_context(viewport=viewport, color_scheme=theme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector(".chart svg", state="attached")  # the page forbids eval
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {address}


def shapes(page, title):
    """What the chart of this title draws, and its axes' numbers."""
    chart = page.locator("figure.chart").filter(has=page.get_by_text(title, exact=True))
    curves = chart.locator("path[class*='run-']")
    return [curve.get_attribute("d") for curve in curves.all()], chart.locator(
        "text"
    ).all_text_contents()


@pytest.mark.slow
def test_every_chart_and_picture_is_drawn(opened):
    page = opened()
    charts = page.locator("figure.chart")
    assert charts.count() >= 8
    for chart in charts.all():
        assert chart.locator("svg[role=img][aria-label]").count() == 1
        paths = [path.get_attribute("d") for path in chart.locator("svg path").all()]
        assert len(paths) > 5
        assert not [path for path in paths if "NaN" in path or "Infinity" in path]
    sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) == 5, "the data once; samples and density of two runs"
    assert min(sizes) > 100


def test_runs_are_shown_and_hidden(opened):
    page = opened()
    both, _ = shapes(page, "loss")
    assert len(both) == 2
    button = page.locator("button[data-run='1']")
    button.focus()
    page.keyboard.press("Enter")  # without a mouse
    assert button.get_attribute("aria-pressed") == "false"
    alone, _ = shapes(page, "loss")
    assert len(alone) == 1
    assert len(shapes(page, "NLL of every row")[0]) == 1, "in all sections alike"
    page.keyboard.press("Space")
    assert shapes(page, "loss")[0] == both


def test_axes_and_terms_can_be_chosen(opened):
    page = opened()
    before, numbers = shapes(page, "loss")
    page.get_by_role("button", name="seconds").click()
    over_seconds, other = shapes(page, "loss")
    assert over_seconds != before
    assert "seconds" in other
    assert "steps" in numbers
    assert page.get_by_role("button", name="steps").get_attribute("aria-pressed") == "false"
    page.get_by_role("button", name="steps").click()
    page.get_by_role("button", name="log scale").click()
    linear, _ = shapes(page, "loss")
    assert linear != before
    page.get_by_role("button", name="J1").click()
    figure = page.locator("figure.chart").filter(has=page.get_by_text("J1", exact=True))
    assert not figure.is_visible()
    page.get_by_role("button", name="J1").click()
    assert figure.is_visible()


def test_a_log_scale_loses_no_value(opened):
    """NLLs of either sign are drawn to a linear scale instead."""
    page = opened()
    n = len(shapes(page, "loss")[0][0].split("L"))
    first = "page.charts.find((chart) => chart.title === 'loss').curves[0]"
    page.evaluate(f"{first}.y = {first}.y.map((value, i) => i ? -value : value)")
    page.get_by_role("button", name="steps").click()
    assert len(shapes(page, "loss")[0][0].split("L")) == n > 2


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_scrolls_one_way(opened, theme):
    page = opened(PHONE, theme, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for chart in page.locator("figure.chart svg").all():
        box = chart.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    for button in page.get_by_role("button").all():
        assert button.bounding_box()["height"] >= 32


CONTRAST = """([foreground, background]) => {
  const painted = (name) => {
    const canvas = document.createElement("canvas").getContext("2d");
    const made = document.body.appendChild(document.createElement("i"));
    made.style.color = `var(${name})`;
    canvas.fillStyle = getComputedStyle(made).color;
    made.remove();
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [painted(foreground), painted(background)].map(luminance);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_told_from_the_paper(opened, theme):
    """WCAG's ratios: 4.5 for text, 3 for what is drawn."""
    page = opened(theme=theme)
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[theme]
    for name in ("ink", "faint", "accent", "note"):
        for ground in ("paper", "wash"):
            assert page.evaluate(CONTRAST, [f"--{name}", f"--{ground}"]) > 4.5, (name, ground)
    for run in range(8):
        assert page.evaluate(CONTRAST, [f"--run-{run}", "--paper"]) > 3, run


def test_the_theme_can_be_turned(opened):
    page = opened(theme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) != dark
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ground) == dark
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert not page.get_by_role("navigation").is_visible()


def test_names_stay_names(opened):
    page = opened()
    assert page.locator("button[data-run='0']").inner_text() == "<script>alert(1)<!--"
    assert page.locator("script").count() == 2


def right_edge(table):
    """The shades of the last column of pixels of an element, as it is seen."""
    seen = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("L"), float)
    return seen[:, -2]


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_shadow_says_that_columns_are_hidden(opened, theme):
    """On a phone at the right end of wide tables, until they are scrolled to their end."""
    page = opened(PHONE, theme, is_mobile=True, has_touch=True)
    paper = {"light": 255, "dark": 23}[theme]
    wide = [
        table
        for table in page.locator(".scroll").all()
        if table.evaluate("table => table.scrollWidth > table.clientWidth + 60")
    ]
    assert wide
    for table in wide:
        assert abs(np.median(right_edge(table)) - paper) > 40
        table.evaluate("table => { table.scrollLeft = table.scrollWidth; }")
        assert abs(np.median(right_edge(table)) - paper) < 8

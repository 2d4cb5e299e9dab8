"""`scoreode report`: the page's numbers, whatever the runs and the data are in what state."""

import base64
import html.parser
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from environment import SCALED
from PIL import Image

from scoreode.data import sources
from scoreode.model.explain import explain
from scoreode.report import figures, samples
from scoreode.train import saved

FEW = ("--samples", 20)


class Page(html.parser.HTMLParser):
    """The tables of a page by their heads, its headings and notes, its data, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.titles, self.notes, self.scripts, self.tags = [], [], [], [], []
        self.headline = []
        self._open = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attributes):
        self._open.append((tag, dict(attributes)))
        self.tags.append(self._open[-1])
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append("")
        elif tag == "p" and dict(attributes).get("class") == "note":
            self.notes.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag in ("td", "th"):
            self.tables[-1][-1][-1] += text
        elif tag == "script":
            self.scripts[-1] += text
        elif tag in ("h1", "h2", "h3"):
            self.titles.append(text)
        elif tag == "p" and attributes.get("class") == "note":
            self.notes[-1] += text
        elif tag == "p" and attributes.get("class") == "headline":
            self.headline.append(text)

    def table(self, *head):
        """The rows of the table whose head begins so, by their first cell."""
        rows = next(rows for rows in self.tables if rows[0][: len(head)] == list(head))
        return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}

    def fold(self, title):
        """The text of what opens under this title."""
        return html.unescape(self.text.split(f"<summary>{title}</summary>")[1].split("</pre>")[0])


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def written(cli, tmp_path_factory, monkeypatch_module):
    """The page that the command writes."""
    folder = tmp_path_factory.mktemp("pages")
    monkeypatch_module.setattr(samples, "_GRID", 8)

    def written(*args):
        out = folder / "page.html"
        result = cli("report", *args, "--out", out, "--force")
        assert result.code == 0, result.err
        assert str(out) in result.out
        return Page(out)

    return written


@pytest.fixture(scope="module")
def page(written, trained):
    """The page of a finished run."""
    return written(trained, *FEW)


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def test_the_fit_in_words(page, trained):
    said = page.fold("The fit in words")
    assert explain(saved.load(trained)) in said
    assert "that of a Gaussian" in said


@pytest.mark.slow
def test_the_numbers_are_those_of_nll(cli, written, trained, table):
    page = written(trained, "--data", table, *FEW)
    summary = json.loads(cli("nll", trained, table, "--json").out)
    nll = page.table("", "rows", "NLL, nats")["run"]
    mean, stderr = -summary["nats_mean"], summary["nats_stderr"]
    assert nll["NLL, nats"] == f"{mean:.4f} ± {stderr:.4f}"
    assert nll["rows"] == f"{summary['n']}"
    assert nll["not converged"] == f"{summary['unconverged']}"
    assert "bits/dim" not in nll
    work = page.table("", "evaluations a row, mean")["run"]
    assert work["evaluations a row, mean"] == f"{summary['nfe_mean']:.1f}"
    assert work["most"] == f"{summary['nfe_max']}"
    assert [int(work[name]) for name in ("median", "95 %")] == summary["nfe_quantiles"]
    counts = page.table("rows that took evaluations:")["run"]
    assert sum(int(count) for cost, count in counts.items() if cost.isdigit()) == summary["n"]
    assert f"All {len(pl.read_csv(table))} rows of" in page.text


def test_rows_by_the_seed_have_their_own_values(cli, written, trained, table, tmp_path):
    page = written(trained, "--data", table, *FEW, "--rows", 40, "--seed", 3)
    assert cli("nll", trained, table, "--out", tmp_path / "rows.csv", "--seed", 3).code == 0
    each, data = pl.read_csv(tmp_path / "rows.csv"), pl.read_csv(table)
    worst = page.table("row", "NLL, nats", "length", "weight")
    assert len(worst) == 8
    for number, row in worst.items():
        i = int(number) - 1
        assert row["NLL, nats"] == f"{-each['nats'][i]:.4f}".replace("-", "−")
        assert row["weight"] == f"{data['weight'][i]:.4g}".replace("-", "−")
    chart = next(c for c in page.data["charts"] if c["title"] == "NLL of every row")
    left_out = [int(word) for word in chart["note"].split() if word.isdigit()]
    assert sum(chart["curves"][0]["y"]) + sum(left_out) == 40


def test_by_default_rows_that_were_held_out(page, table):
    assert f"All 20 validation rows of {table}, which chose the weights." in page.text
    held_out = sources.load_data(str(table)).validation
    shown = page.table("row", "NLL, nats", "length", "weight")
    weights = {f"{weight:.4g}" for weight in held_out[:, 1]}
    assert {row["weight"] for row in shown.values()} <= weights


def test_the_curves_are_those_of_the_metrics(written, whole, metrics):
    page = written(whole, *FEW)
    records = metrics(whole)
    charts = {chart["title"]: chart["curves"][0] for chart in page.data["charts"]}
    for title, term in {"loss": "loss", "J1": "first", "validation NLL": "validation_nats"}.items():
        assert charts[title]["x"]["steps"] == [record["step"] for record in records]
        np.testing.assert_allclose(charts[title]["y"], [r[term] for r in records], rtol=1e-5)
    assert "J2" not in charts, "order 1 has none"


def test_a_term_is_drawn_from_its_first_whole_mean(copied, written):
    file = copied / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    later = [{**records[-1], "step": 100 + i, "second": s} for i, s in enumerate((0.0, 0.7, 3, 2))]
    file.write_text("".join(json.dumps(record) + "\n" for record in (*records, *later)))
    charts = {chart["title"]: chart for chart in written(copied, *FEW).data["charts"]}
    (curve,) = charts["J2"]["curves"]
    assert curve["y"] == [3, 2]
    assert curve["x"]["steps"] == [102, 103]


def test_the_last_mean_is_not_one_of_few_steps(copied, written):
    file = copied / "metrics.jsonl"
    last = json.loads(file.read_text().splitlines()[-1])
    steps, losses = (100, 200, 300, 310), (1.0, 2, 3, 25)
    records = [{**last, "step": s, "loss": x} for s, x in zip(steps, losses, strict=True)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    charts = {chart["title"]: chart for chart in written(copied, *FEW).data["charts"]}
    (curve,) = charts["loss"]["curves"]
    assert curve["y"] == [1, 2, 5]
    assert curve["x"]["steps"] == [100, 200, 310]


@pytest.fixture(scope="module")
def digits(cli, tiny, tmp_path_factory):
    """A run on digits that were split by another seed than 0."""
    run = tmp_path_factory.mktemp("digits") / "digits"
    assert cli("fit", "digits", *tiny, *SCALED, "--steps", 5, "--seed", 2, "--out", run).code == 0
    return run


@pytest.mark.slow
def test_bits_per_dim_where_there_is_a_grid(cli, written, digits, tmp_path):
    run, few = digits, tmp_path / "few.npy"
    np.save(few, sources.load_data("digits").test[:6])
    page = written(run, "--data", few, "--samples", 4)
    summary = json.loads(cli("nll", run, few, "--json").out)
    found = page.table("", "rows", "NLL, nats")["digits"]["bits/dim"]
    assert found.split(" ± ")[0] == f"{summary['bits_per_dim']:.4f}"
    stderr = summary["nats_stderr"] / 64 / np.log(2)
    assert found.split(" ± ")[1] == f"{stderr:.4f}"
    probes = page.table("", "evaluations a row, mean")["digits"]["probes, nats"]
    assert probes == f"{summary['probe_stderr']:.2g}"
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3, "data, samples, the least likely"


@pytest.mark.slow
def test_held_out_is_what_the_runs_own_seed_held_out(written, digits):
    page = written(digits, "--rows", 4, "--samples", 2)
    assert "4 of 359 test rows of digits, at random." in page.text
    assert f"scoreode nll {digits} digits --seed 2" in page.fold("Run it again")
    worst = page.table("row", "NLL, nats")
    fitted, test = saved.load(digits), sources.load_data("digits", 2).test
    rows = np.array([int(number) - 1 for number in sorted(worst, key=int)])
    nats = fitted.log_likelihood(test[rows], 2).nats
    expected = {f"{rows[i] + 1}": f"{-nats[i]:.4f}" for i in range(4)}
    assert {number: row["NLL, nats"] for number, row in worst.items()} == expected


@pytest.mark.slow
def test_runs_beside_each_other(written, trained, whole, tmp_path):
    """A folder of runs stands for them, in order; differences are those of the same rows."""
    folder = tmp_path / "folder"
    for name, run in {"b": whole, "a": trained, "c": trained}.items():
        shutil.copytree(run, folder / name)
    page = written(folder, *FEW)
    assert page.data["runs"] == ["a", "b", "c"]
    found = page.table("", "rows", "NLL, nats")
    assert list(found) == ["a", "b", "c"]
    difference = "minus that of a, paired, nats"
    assert found["c"][difference] == "0.0000 ± 0.0000"
    means = [float(found[run]["NLL, nats"].split()[0].replace("−", "-")) for run in "ab"]
    paired = float(found["b"][difference].split()[0].replace("−", "-"))
    assert paired == pytest.approx(means[1] - means[0], abs=2e-4)


def test_the_command_trains_it_again(cli, page, trained, tmp_path):
    commands = page.fold("Run it again").splitlines()
    again = shlex.split(next(line for line in commands if line.startswith("scoreode fit")))
    assert cli(*again[1:], "--out", tmp_path / "again").code == 0
    weights = "model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (trained / weights).read_bytes()
    evaluate = shlex.split(next(line for line in commands if line.startswith("scoreode nll")))
    assert cli(*evaluate[1:]).code == 0


def test_the_command_that_trained_is_shown(written, copied, cli, table, tmp_path):
    """As it was given, its file of options resolved."""
    (tmp_path / "options.toml").write_text("order = 1\nwidth = 16\ndepth = 1\nbatch-size = 32\n")
    run = tmp_path / "my run"
    given = ("fit", table, "--config", tmp_path / "options.toml", "--steps", 5)
    assert cli(*given, "--out", run, "--quiet").code == 0
    command = f"scoreode fit {table} --order 1 --steps 5 --batch-size 32 --width 16 --depth 1"
    assert command in written(run, *FEW).fold("Run it again").splitlines()
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"command": None}))
    assert "trained from Python" in written(copied, *FEW).fold("Run it again")


def test_the_grid_and_what_training_went_back_to(written, tmp_path):
    """Of a run with one discrete column among three, as version 0.1.0 left it."""
    old = Path(__file__).parents[1] / "train" / "run-0.1.0"
    shutil.copytree(old, tmp_path / "run")
    summary = json.loads((old / "summary.json").read_text())
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary | {"recoveries": [20, 40]}))
    page = written(tmp_path / "run", "--data", old / "rows.csv", *FEW)
    facts = page.table("", "run")
    assert facts["grid"]["run"] == "cells of width 1 (visits)"
    assert facts["went back"]["run"] == "to step 20, 40, each time with half the rate"


def test_an_unfinished_run_has_its_curves(written, stopped, trained):
    page = written(stopped)
    assert page.notes == ["the model of run: its training is not finished."]
    assert page.titles == ["table.csv", "Runs", "Training"]
    assert [chart["title"] for chart in page.data["charts"]] == ["loss", "J1", "validation NLL"]
    assert f"scoreode fit --resume {stopped}" in page.fold("Run it again")
    both = written(stopped, trained, *FEW)
    assert "Calibration" in both.titles
    assert len(both.data["runs"]) == 2
    nll = next(c for c in both.data["charts"] if c["title"] == "NLL of every row")
    assert [curve["run"] for curve in nll["curves"]] == [1], "the colour of its training"


@pytest.mark.slow
@pytest.mark.parametrize("change", ["removed", "changed"])
def test_data_that_are_gone(cli, written, tiny, table, rows, tmp_path, change):
    data, run = tmp_path / "data.csv", tmp_path / "run"
    shutil.copy(table, data)
    assert cli("fit", data, *tiny, "--steps", 5, "--out", run).code == 0
    if change == "removed":
        data.unlink()
        reason = f"{data}: no such file"
    else:
        np.savetxt(data, rows[::-1], delimiter=",", header="length,weight", comments="")
        reason = f"{data} has changed since the run began"
    page = written(run, *FEW)
    assert page.notes == [f"held-out rows of run: {reason}. Give some with --data FILE."]
    assert page.titles[1:] == ["Runs", "Training", "Samples"]
    if change == "removed":
        assert "Log-likelihood" in written(run, "--data", table, *FEW).titles


def test_a_model_without_training_or_data(written, copied):
    """As a published checkpoint, or one that a program saved."""
    config = json.loads((copied / "config.json").read_text())
    config["data"] |= {"name": "X", "path": None, "n_train": 180}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "metrics.jsonl").unlink()
    page = written(copied, *FEW)
    assert page.notes[1:] == ["metrics.jsonl, with the loss over time."]


def test_a_damaged_line_of_metrics(cli, copied, written):
    file = copied / "metrics.jsonl"
    whole = file.read_text()
    file.write_text(whole + '{"step": 50, "sec')  # cut short by a kill
    assert written(copied, *FEW).data["charts"][0]["curves"][0]["x"]["steps"][-1] == 40
    for line in ("", "[1]", "{}", '{"step": "many", "seconds": 1}', "\x00"):
        file.write_text(f"{whole}{line}\n{whole}")
        result = cli("report", copied)
        assert result.code == 2
        number = 1 + len(whole.splitlines())
        assert f"{file}: line {number}: damaged" in result.err
        assert "restore a copy" in result.err


NAMES = ("<script>alert(1)</script>", '" onload="alert(2)', "a$_^$b ${7*7} {{ 7*7 }}\u2028&amp;")


@pytest.mark.slow
def test_names_are_escaped(cli, written, tiny, rows, tmp_path):
    run, data = tmp_path / "<b>run<!--", tmp_path / "<img src=x onerror=alert(3)>.parquet"
    values = np.concatenate([rows, rows[::-1, :1] ** 2], 1)
    pl.DataFrame(values, list(NAMES)).write_parquet(data)
    assert cli("fit", data, *tiny, "--steps", 5, "--out", run).code == 0
    page = written(run, *FEW)
    allowed = {"html", "head", "meta", "link", "title", "style", "body", "header", "p", "h1", "h2"}
    allowed |= {"h3", "button", "nav", "a", "main", "section", "div", "table", "thead", "tbody"}
    allowed |= {"tr", "th", "td", "details", "summary", "pre", "figure", "figcaption", "img"}
    allowed |= {"noscript", "footer", "script"}
    assert {tag for tag, _ in page.tags} <= allowed
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert len(page.scripts) == 2
    assert "\u2028" not in page.scripts[0]
    assert "<" not in page.scripts[0]
    assert page.data["runs"] == [run.name]
    assert page.titles[0] == data.name
    assert set(NAMES) <= set(page.table("column"))


def test_nothing_is_loaded_from_outside(page):
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name, "#")[:1] == "#" or attributes[name].startswith("data:")
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_the_same_page_but_for_its_date(written, page, trained):
    one, other = (text.split("<footer>") for text in (page.text, written(trained, *FEW).text))
    assert one[0] == other[0]
    assert one[1].split("</footer>")[1] == other[1].split("</footer>")[1]
    assert "jax " in one[1].split("</footer>")[0]


def test_the_page_is_in_the_run_by_default(cli, copied, contents):
    before = contents(copied)
    (copied / "report.html").write_text("an old page, to be replaced")
    result = cli("report", copied, *FEW)
    assert result.code == 0, result.err
    assert f"written to {copied}/report.html" in result.out
    after = contents(copied)
    assert after.pop("report.html").startswith(b"<!doctype html>")
    assert after == before


REFUSED = {
    "no run": ((), "give the folder of a run"),
    "no such folder": (("nowhere",), "nowhere: neither a run nor a folder of runs"),
    "another suffix": (("{run}", "--out", "page.pdf"), "page.pdf: unknown kind of file; use .html"),
    "no such folder for it": (("{run}", "--out", "a/page.html"), "there is no folder a; make it"),
    "one row": (("{run}", "--rows", "1"), "--rows 1: a spread takes at least 2"),
    "one sample": (("{run}", "--samples", "0"), "--samples 0: a spread takes at least 2"),
    "a negative seed": (("{run}", "--seed", "-1"), "seed -1: must be between 0 and 4294967295"),
    "no such data": (("{run}", "--data", "none.csv"), "none.csv: no such file"),
    "other data": (("{run}", "--data", "mixture"), "mixture: 1 columns, but the run was trained"),
}


@pytest.mark.parametrize(("args", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(cli, trained, contents, tmp_path, args, said):
    before = contents(trained)
    result = cli("report", *(arg.format(run=trained) for arg in args))
    assert result.code == 2, result.said
    assert said in result.said
    assert contents(trained) == before
    assert not list(tmp_path.iterdir())


def test_least_likely_rows_are_rows_of_the_file(page, table):
    data = pl.read_csv(table)
    shown = page.table("row", "NLL, nats", "length", "weight")
    assert len(shown) == 8
    for number, row in shown.items():
        there = data.row(int(number) - 1, named=True)
        assert row["length"] == f"{there['length']:.4g}".replace("-", "−")
        assert row["weight"] == f"{there['weight']:.4g}".replace("-", "−")
    assert f"Numbers are those of the rows of {table}, from 1." in page.text


def test_of_parts_it_is_said_which_is_counted(digits, written, cli, tiny, rows, tmp_path):
    page = written(digits, "--rows", 4, "--samples", 2)
    assert "Numbers are those of the rows of the test part of digits, from 1." in page.text
    file, run = tmp_path / "parts.npz", tmp_path / "run"
    np.savez(file, x_train=rows)
    assert cli("fit", file, *tiny, "--steps", 5, "--out", run).code == 0
    page = written(run, *FEW)
    assert f"Numbers are those of the rows of the train part of {file}, from 1." in page.text
    for number, row in page.table("row", "NLL, nats").items():
        assert row["x1"] == f"{rows[int(number) - 1, 1]:.4g}".replace("-", "−")


def test_one_outlier_leaves_the_charts_readable(written, trained, rows, tmp_path):
    """All other rows keep their room, and what is not drawn is said."""
    far = np.concatenate([rows, [[40.0, -3000.0]]])
    data = tmp_path / "far.csv"
    np.savetxt(data, far, delimiter=",", header="length,weight", comments="")
    page = written(trained, "--data", data, *FEW)
    charts = {chart["title"]: chart for chart in page.data["charts"]}
    nll = charts["NLL of every row"]
    (curve,) = nll["curves"]
    assert "above, up to" in nll["note"]
    assert np.count_nonzero(curve["y"]) > 8, "in one bin of 40 before"
    left_out = [int(word) for word in nll["note"].split() if word.isdigit()]
    assert sum(curve["y"]) + sum(left_out) == len(far)
    lengths = charts["Squared length"]
    band, _, dots = lengths["curves"]
    left_out = re.match(r"Not drawn: [1-3] above, up to (\S+)\.$", lengths["note"])
    assert left_out is not None
    assert float(left_out[1]) > 1000
    assert max(y for y in dots["y"] if y is not None) < 10 * max(band["y"])
    assert "1 outside" in page.text, "of the scatter of the data"


def test_the_first_lines_say_what_was_found(page):
    (line,) = page.headline
    nll = page.table("", "rows", "NLL, nats")["run"]
    assert line.startswith(f"NLL: {nll['NLL, nats']} nats, mean ± standard error over ")
    assert "bits/dim" not in line


def test_of_several_runs_the_first_lines_say_who_is_ahead(cli, written, trained, whole, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(whole, runs / "one")
    shutil.copytree(trained, runs / "other")
    *means, verdict = written(runs, *FEW).headline
    assert [mean.split(": ")[0] for mean in means] == ["NLL, one", "NLL, other"]
    summary = json.loads(cli("compare", runs / "one", runs / "other", "--to", "best", "--json").out)
    best = summary["reference"]
    (other,) = (run for run in summary["runs"] if run["label"] != best)
    less = f"{-other['difference']:.4f} ± {other['difference_stderr']:.4f} nats a row less than"
    judged = "significant" if other["significant"] else "not significant"
    assert verdict.startswith(best)
    assert verdict.endswith(f"{less} {other['label']} ({judged}).")
    assert ("is ahead:" in verdict) == other["significant"]


def test_digits_are_light_on_black(written, digits):
    """Their mean shade is .3 of white; a fifth of a sheet is the white between them."""
    page = written(digits, "--rows", 16, "--samples", 16)
    sheets = [a["src"] for tag, a in page.tags if tag == "img"]
    content = base64.b64decode(sheets[0].split(",")[1])
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"), float) / 255
    drawn = image[image[..., 3] == 1][:, 0]
    assert drawn.min() == 0
    assert 0.35 < drawn.mean() < 0.55, "0.76 where 0 is white"


def test_axes_of_pairs_have_numbers():
    rows = np.random.default_rng(0).normal(size=(200, 3)) * [1e-4, 1, 20] + [0, 0, 1.7e9]
    rows[0, 1] = 1e6
    figure, left_out = figures.pairs(rows, rows[:50], ["a", "b", "c"])
    axes = np.reshape(figure.axes, (3, 3))
    assert left_out == 2
    for axis in (*(a.xaxis for a in axes[2]), *(a.yaxis for a in axes[1:, 0])):
        shown = [label.get_text() for label in axis.get_ticklabels()]
        assert len(set(shown)) == len(shown) >= 2
        values = [float(text.replace("−", "-")) for text in shown]
        np.testing.assert_allclose(values, axis.get_ticklocs(), rtol=1e-9, atol=1e-15)
    assert np.ptp(axes[2, 1].get_xlim()) < 20, "one value far out leaves room for the others"
    for axis in (*axes[:2].flat, *axes[:, 1:].flat):
        assert not axis.get_yticks().size or not axis.get_xticks().size

"""The report page: its content and sources and, in a browser, that it is complete, sorts, and loads nothing."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading

import numpy as np
import pytest

from configs import common
from darts_pt_jax import record
from darts_pt_jax.genotype import Genotype
from experiments import report
from experiments.config import settings
from experiments.config.schema import flatten
from experiments.engine import locks
from experiments.reporting import measures, page, records, serving
from experiments.reporting.records import RunRecords
from tests.command import TINY, digests, lines, run

KEYS = {**TINY, "data.size": 4, "supernet.channels": 2, "tensorboard": False}
HARM = "</script><script>document.title='harmed'</script>"
shared = pytest.mark.xdist_group("page")
"""Marks the tests that share one run."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run."""
    workdir = tmp_path_factory.mktemp("page") / "run"
    assert run(workdir, KEYS) == 0
    return workdir


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the run's records that a test may change."""
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "snapshots"))
    return tmp_path / "run"


def change(workdir, **values):
    """Changes run.json."""
    content = record.unsealed((workdir / "run.json").read_bytes())
    content["config"] |= values
    record.write_text(workdir / "run.json", record.sealed(content))


def built(workdir):
    config = records.config_of(records.read_run(workdir))
    return page.build(config, RunRecords.read(workdir, config, finished=False))


def rewritten(workdir, name, alter):
    text = "".join(json.dumps(alter(line)) + "\n" for line in lines(workdir, name))
    (workdir / name).write_text(text)


def scorings(decisions):
    """Names of the removed parts, and scores, in the order of the page."""
    for d in decisions:
        for scores in d.get("passes", [d]):
            yield d, scores, d.get("candidates") or [f"edge {e}" for e in scores["edges"]]


def error_of(scores, i):
    """The paired standard error of a drop in images, from the outcome of each image."""
    n, drop = scores["images"], scores["baseline"]["correct"] - scores["correct"][i]
    lost = (scores["paired"]["correct"][0][i + 1] + drop) // 2
    outcomes = [1] * lost + [-1] * (lost - drop)
    return statistics.pstdev(outcomes + [0] * (n - len(outcomes))) * n**0.5


@shared
def test_the_command_makes_the_page_of_the_stage_and_touches_nothing_else(whole, tmp_path, capsys):
    before, text = digests(whole), (whole / "report.html").read_text()
    assert report.main([str(whole), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == text and digests(whole) == before
    (whole / "report.html").unlink()
    assert report.main([str(whole)]) == 0
    assert (whole / "report.html").read_text() == text
    assert {p for p in whole.rglob("*")} == before.keys()
    before = digests(whole)
    assert run(whole, KEYS) == 0
    assert digests(whole) == before, "the stage finds its own page"
    assert f"the page is in {whole / 'report.html'}" in capsys.readouterr().out


@shared
def test_the_command_on_the_page_makes_the_run_s_config(whole):
    config = records.config_of(records.read_run(whole))
    command = records.command(RunRecords.read(whole, config))
    assert flatten(settings.parse(command[2:]).config) == flatten(config)


@shared
def test_an_unfinished_run_has_a_page_of_its_records(copy):
    for name in ("genotype.json", "genotype.txt", "report.md", "report.html"):
        (copy / name).unlink()
    full = lines(copy, "decisions.jsonl")
    (copy / "decisions.jsonl").write_text("".join(json.dumps(d) + "\n" for d in full[:3]) + '{"order": 1, "deci')
    text = built(copy)
    assert "3 of 22 decisions are taken" in text and 'id="leads"' in text and 'id="cells"' not in text
    (copy / "decisions.jsonl").unlink()
    text = built(copy)
    assert "2 of 2 epochs of the search are done" in text and 'id="decisions"' not in text


@shared
def test_it_is_made_while_a_process_holds_the_lock(copy):
    with locks.locked(copy / "lock"):
        lock = (copy / "lock").read_text()
        assert report.main([str(copy)]) == 0 and (copy / "lock").read_text() == lock


@shared
def test_records_of_an_earlier_version_say_that_no_error_was_recorded(copy):
    def alter(line):
        line.pop("paired", None)
        for one in line.get("passes", []):
            one.pop("paired")
        return line

    rewritten(copy, "decisions.jsonl", alter)
    content = record.unsealed((copy / "run.json").read_bytes())
    for key in ("devices", "versions", "image_shape", "classes"):
        del content[key]
    del content["config"]["checkpoint.keep"]
    (copy / "run.json").write_text(json.dumps(content))
    text = built(copy)
    assert (
        "The standard error was not recorded" in text
        and "±" not in text.partition("<script>")[0].partition("<body>")[2]
    )
    assert "not recorded" in text


@shared
@pytest.mark.parametrize("method", ["magnitude", "magnitude_tuned", "random", "sgas"])
def test_decisions_by_the_alphas_have_weights_in_place_of_an_error(copy, method):
    def alter(line):
        for key in ("images", "baseline", "correct", "loss", "paired", "passes", "criterion"):
            line.pop(key, None)
        values = len(line.get("candidates", line.get("edges")))
        weights = {"strength" if line["type"] == "topology" else "edge_weights": [0.125] * values, "margin": 0.25}
        return line | weights | ({} if method in ("magnitude_tuned", "sgas") else {"method": method})

    rewritten(copy, "decisions.jsonl", alter)
    change(copy, **{"select.method": method})
    text = built(copy)
    assert (
        "no images were scored" in text and text.count('<td class="n">0.1250</td>') >= 22 and 'id="leads"' not in text
    )
    assert ("chosen at random" in text) == (method == "random") != ("ahead by 0.25 in weight" in text)


@shared
def test_texts_of_records_are_never_markup(copy):
    change(copy, **{"data.path": HARM, "report.nasbench201": "", "genotype": ""})
    rewritten(copy, "timings.jsonl", lambda line: {**line, "type": HARM, "seconds": 2})
    text = built(copy)
    assert "</script><script>document" not in text and "&lt;/script&gt;" in text and "\\u003c/script\\u003e" in text


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (lambda d: (d / "run.json").unlink(), 2, "not a run directory"),
        (lambda d: (d / "run.json").write_text((d / "run.json").read_text().replace("tiny", "tony")), 1, "is damaged"),
        (lambda d: (d / "run.json").write_text("[1]"), 1, "is damaged"),
        (lambda d: change(d, space="elsewhere"), 2, "space is 'elsewhere'"),
        (lambda d: (d / "decisions.jsonl").write_text("no\n"), 1, "line 1, is damaged"),
        (lambda d: (d / "genotype.json").write_text("{"), 1, "genotype: got"),
        (lambda d: (d / "retrained.json").write_text("{"), 1, "not as a run writes them"),
        (lambda d: (d / "decisions.jsonl").write_text("{}\n"), 1, "KeyError"),
    ],
)
@shared
def test_what_is_wrong_is_one_line(copy, damage, code, message, capsys):
    damage(copy)
    assert report.main([str(copy)]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_the_benchmark_is_looked_up_where_it_applies(tmp_path, capsys):
    arch = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    other = arch.replace("nor_conv_1x1", "none")
    np.savez(
        tmp_path / "table.npz",
        arch=np.array([arch, other], "S"),
        metric_names=np.array(["c10_test", "c100_test", "in16_test"]),
        metrics=np.array([[91.25, 71.5, 41.0], [92.0, 70.0, 40.0]]),
    )
    values = {"space": "nasbench201", "search.alpha": "fixed"}
    content = {"config": {**flatten(common.get_config()), **values}, "data_sha256": "12"}
    record.write_text(tmp_path / "run.json", record.sealed(content))
    (tmp_path / "genotype.json").write_text(Genotype.from_text(arch).to_json())
    assert "Not looked up" in built(tmp_path)
    assert report.main([str(tmp_path), "--nasbench201", "none.npz"]) == 2
    assert capsys.readouterr().err.startswith("error: none.npz: no such file")
    assert report.main([str(tmp_path), "--nasbench201", str(tmp_path / "table.npz")]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "91.25 % on CIFAR-10" in text and "rank 2 of 2" in text and "random choice: median" in text


@pytest.fixture(scope="module")
def several(whole, tmp_path_factory):
    """Runs of two selections with made-up accuracies, and their page."""
    place, runs, values = tmp_path_factory.mktemp("several"), [], {}
    for method, accuracies in {"perturbation": (90.0, 92.0, 97.0), "magnitude": (70.0, 101.0)}.items():
        for seed, accuracy in enumerate(accuracies):
            workdir = place / f"{method}{seed}"
            shutil.copytree(whole, workdir, ignore=shutil.ignore_patterns("checkpoints", "snapshots"))
            change(workdir, **{"seed": seed, "select.method": method, "data.path": HARM * seed})
            rewritten(workdir, "metrics.jsonl", lambda line, v=accuracy: {**line, "valid_accuracy": v})
            runs.append(workdir)
        values[method] = accuracies
    assert report.main([*map(str, runs), "--out", str(place / "comparison.html")]) == 0
    return place / "comparison.html", values


def browser_path():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium."""
    if not (path := browser_path()):
        pytest.skip("there is no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield opened
        opened.close()


@pytest.fixture
def show(browser):
    """`show(file, **look)` draws a page; at the end, it must not have logged or requested anything."""
    said, asked = [], []

    @contextlib.contextmanager
    def shown(file, width=1280, **look):
        tab = browser.new_page(viewport={"width": width, "height": 844}, **look)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.route("**/*", lambda route: route.continue_() if route.request.url == file.as_uri() else route.abort())
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-drawn]", state="attached")
        yield tab
        tab.close()

    yield shown
    assert not said and {url for url in asked if not url.startswith("data:")} <= set(asked[:1])


@shared
def test_the_numbers_are_those_of_the_decisions(whole, show):
    decisions = lines(whole, "decisions.jsonl")
    with show(whole / "report.html") as tab:
        tables = tab.eval_on_selector_all(
            "#decisions article table",
            "all => all.map(t => [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent)))",
        )
        drawn = tab.locator("#decisions .chart svg").count()
    found = list(scorings(decisions))
    assert len(tables) == len(found) == drawn - 1
    for (d, scores, names), (nothing, *rows) in zip(found, tables, strict=True):
        base, n = scores["baseline"], scores["images"]
        assert nothing[1] == f"{base['correct']:,}" and float(nothing[3]) == pytest.approx(base["loss"], abs=1e-4)
        for i, (name, row) in enumerate(zip(names, rows, strict=True)):
            assert row[0].startswith(name) and row[1] == f"{scores['correct'][i]:,}"
            drop, error = map(float, row[2].split(" ± "))
            assert drop == pytest.approx(100 * (base["correct"] - scores["correct"][i]) / n, abs=0.006)
            assert error == pytest.approx(100 * error_of(scores, i) / n, abs=0.006)
            assert float(row[4].split(" ± ")[0]) == pytest.approx(scores["loss"][i] - base["loss"], abs=1e-4)
            removed = scores["edges"].index(scores["removed"]) if "removed" in scores else d["choice_index"]
            assert (row[5] in ("kept", "dropped")) == (i == removed)


@shared
def test_the_comparison_has_mean_and_spread_and_sorts_by_click_and_key(several, show):
    file, values = several
    column = "validation accuracy after selection, %"
    with show(file) as tab:
        table = tab.locator("#comparison")
        heads = table.locator("thead th").all_inner_texts()

        def cells(name, rows="#comparison tbody tr"):
            return [row.locator("th, td").nth(heads.index(name)).inner_text() for row in tab.locator(rows).all()]

        assert cells("selection or architecture") == list(values) and cells("runs") == ["3", "2"]
        expected = [f"{statistics.mean(numbers):.2f} ± {statistics.stdev(numbers):.2f}" for numbers in values.values()]
        assert cells(column) == expected
        button = table.get_by_role("button", name=column)
        button.click()
        assert cells(column) == expected[::-1] and table.locator("th[aria-sort=ascending]").count() == 1
        button.press("Enter")
        assert cells(column) == expected and table.locator("th[aria-sort=descending]").count() == 1
        seeds = tab.locator("#runs").get_by_role("button", name="seed")
        seeds.press("Space")
        at = tab.locator("#runs thead th").all_inner_texts().index("seed")
        rows = tab.locator("#runs tbody tr").all()
        assert [row.locator("th, td").nth(at).inner_text() for row in rows] == ["0", "0", "1", "1", "2"]
        assert tab.title() == "5 runs compared"


@shared
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_axe_finds_nothing_serious(whole, several, show, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    file = whole / "report.html" if name == "run" else several[0]
    with show(file, color_scheme=scheme) as tab:
        tab.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
        found = Axe().run(tab).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


@shared
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_a_phone_has_nothing_to_scroll_sideways(whole, several, show, name):
    with show(whole / "report.html" if name == "run" else several[0], 360) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
        widths = tab.eval_on_selector_all(".chart svg", "all => all.map(svg => svg.getBoundingClientRect().width)")
        assert widths and max(widths) <= 360


@shared
def test_only_the_page_s_own_script_may_run(whole, tmp_path, browser):
    file = tmp_path / "page.html"
    file.write_text((whole / "report.html").read_text().replace("<main>", "<main><script>document.title = 1</script>"))
    tab = browser.new_page()
    tab.goto(file.as_uri())
    assert tab.title().startswith("tiny")
    tab.close()


@shared
def test_it_is_served_on_loopback_alone_and_nothing_else_is(whole):
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests import conftest\nfrom experiments import report\nimport sys\n"
         "sys.exit(report.main(sys.argv[1:]))", str(whole), "--serve"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == f"the page is in {whole / 'report.html'}\n"
        port = int(process.stdout.readline().partition("http://127.0.0.1:")[2].partition("/")[0])

        def answer(path, method="GET", host=None):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(method, path, headers={"Host": host} if host else {})
            with contextlib.closing(connection.getresponse()) as reply:
                return reply.status, reply.read().decode()

        text = (whole / "report.html").read_text()
        assert answer("/") == answer("/report.html") == (200, text) and answer("/", "HEAD") == (200, "")
        for path in ("/run.json", "/../run.json", "/report.html/..", "/%2e%2e/run.json"):
            assert answer(path)[0] == 404
        assert answer("/", host="elsewhere.example")[0] == 404 and answer("/", "POST")[0] == 501
        with contextlib.suppress(FileNotFoundError):
            sockets = [line.split()[1] for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
            assert {s for s in sockets if s.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}
    finally:
        process.kill()
        process.communicate()


def test_a_page_that_cannot_be_made_is_reported():
    def make():
        raise ValueError("torn\nrecords")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serving.handler(make)) as server:
        threading.Thread(target=server.handle_request).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request("GET", "/")
        reply = connection.getresponse()
        assert reply.status == 500 and b"torn records" in reply.read()
        connection.close()


@shared
def test_an_unfinished_search_has_no_accuracy_at_its_end(copy):
    name = "validation accuracy at the end of the search, %"
    config = records.config_of(records.read_run(copy))
    whole = measures.measure(config, RunRecords.read(copy, config))
    assert whole[name] == lines(copy, "metrics.jsonl")[1]["valid_accuracy"]
    first = (copy / "metrics.jsonl").read_text().splitlines()[0]
    (copy / "metrics.jsonl").write_text(first + "\n")
    (copy / "genotype.json").unlink()
    assert name not in measures.measure(config, RunRecords.read(copy, config, finished=False))


@shared
def test_a_search_that_returned_ends_at_that_epoch(copy):
    def alter(line):
        return {**line, "returned_to": 1} if line["stage"] == "search" and line["epoch"] == 2 else line

    first = lines(copy, "metrics.jsonl")[0]["valid_accuracy"]
    rewritten(copy, "metrics.jsonl", alter)
    assert f"{first:.2f} to " in built(copy)

"""The report page: its content and sources and, in a browser, that it is complete, sorts, and loads nothing."""

import contextlib
import http.client
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import threading

import numpy as np
import pytest

from darts_pt_jax import architecture, record
from darts_pt_jax.configs import common
from darts_pt_jax.experiments import report
from darts_pt_jax.experiments.config import settings
from darts_pt_jax.experiments.config.schema import flatten
from darts_pt_jax.experiments.engine import locks
from darts_pt_jax.experiments.reporting import cautions, decisions, matrix, measures, page, records, serving
from darts_pt_jax.experiments.reporting.records import RunRecords
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import certainty, perturbation, schedule
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.spaces import SPACES
from tests.command import REPORTED, TINY, digests, lines, run

KEYS = {**TINY, **REPORTED, "data.size": 4, "supernet.channels": 2, "tensorboard": False}
HARM = "</script><script>document.title='harmed'</script>"
shared = pytest.mark.xdist_group("page")
"""Marks the tests that share one run."""


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A whole run, and what it printed."""
    workdir, screen = tmp_path_factory.mktemp("page") / "run", io.StringIO()
    with contextlib.redirect_stdout(screen):
        assert run(workdir, KEYS) == 0
    return workdir, screen.getvalue()


@pytest.fixture(scope="module")
def whole(command):
    """A whole run."""
    return command[0]


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
    assert "no images were scored" in text and text.count(">0.1250</td>") >= 22 and 'id="leads"' not in text
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


def open_all(tab):
    """Opens all folded parts, and waits for their charts."""
    tab.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
    tab.wait_for_function("[...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg'))")


@shared
def test_the_numbers_are_those_of_the_decisions(whole, show):
    decisions = lines(whole, "decisions.jsonl")
    with show(whole / "report.html") as tab:
        open_all(tab)
        tables = tab.eval_on_selector_all(
            ".decision table",
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
        shares = tab.locator("#agreement-1 tbody td").all_inner_texts()
        assert shares == ["100"] * 25, "copies of one run agree"


@shared
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_axe_finds_nothing_serious(whole, several, show, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    file = whole / "report.html" if name == "run" else several[0]
    with show(file, color_scheme=scheme) as tab:
        open_all(tab)
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
        [sys.executable, "-c", "from tests import conftest\nfrom darts_pt_jax.experiments import report\nimport sys\n"
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


@shared
def test_ties_and_noise_are_said_while_they_happen(command):
    workdir, screen = command
    taken, printed = lines(workdir, "decisions.jsonl"), screen.splitlines()
    said = [
        line for line in printed if line.startswith("select decision") and (" -> " in line or " keeps edges " in line)
    ]
    for decision, line in zip(taken, said, strict=True):
        choice = decision["choice"] if decision["type"] == "operation" else decision["choice"][-1]
        noise = any(contest.within_noise for contest in certainty.contests(decision))
        word = " (a tie)" if certainty.is_tie(decision) else " (within noise)" if noise else ""
        assert line.endswith(f" {choice}{word}")
    warned = [f"warning: {text}" for text in cautions.of_decisions(taken)]
    assert [line for line in printed if line.startswith("warning") and " are ties" in line] == warned
    for text in cautions.of_decisions(taken):
        assert text in (workdir / "report.md").read_text() and text in (workdir / "report.html").read_text()


@shared
def test_the_commit_of_a_checkout_is_recorded(whole):
    root, (versions,) = pathlib.Path(__file__).parents[1], records.read_run(whole)["versions"]
    known = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
    if (root / ".git").exists() and known:
        assert known.startswith(versions["commit"].removesuffix("-dirty")) and versions["commit"]
    else:
        assert "commit" not in versions


@shared
def test_the_flags_of_xla_are_recorded(whole):
    (versions,) = records.read_run(whole)["versions"]
    assert versions["XLA_FLAGS"] == os.environ["XLA_FLAGS"]


def scores(rng, count, n=500):
    """A scoring of `count` removals as runs record it, on made-up images of which most are right."""
    right, losses = rng.random((count + 1, n)) < 0.9, rng.random((count + 1, n))
    correct, loss = right.sum(1).tolist(), losses.mean(1).tolist()
    paired = {
        "correct": (right[:, None] != right).sum(-1).tolist(),
        "loss": np.square(losses[:, None] - losses).sum(-1).tolist(),
    }
    return {"images": n, "baseline": {"correct": correct[0], "loss": loss[0]}, "correct": correct[1:], "loss": loss[1:],
            "paired": paired}  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The page of a run of the paper's size with the most edges and operations, from made-up records."""
    workdir, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    space, config = SPACES["darts_none"], flatten(common.get_config())
    config |= {"space": "darts_none", "data.path": "/a/long/path/to/the/place/of/the/data/" * 3 + "cifar10.npz"}
    decided, taken = architecture.undecided(space), []
    points, epochs = schedule.decision_points(space, "random", "both", np.random.RandomState(0)), []
    for target in (target for point in points for target in point):
        taken.append(perturbation.decide(lambda masks: scores(rng, len(masks)), space, target, CRITERIA["acc"]))
        decided = decided.apply(taken[-1])
    for epoch in range(4):
        weights = {kind: rng.dirichlet(np.ones(g.width), len(g.edges)).tolist() for kind, g in space.cells.items()}
        epochs.append({"stage": "search", "epoch": epoch + 1, "train_accuracy": 90.0, "valid_accuracy": 89.0, "edge_weights": weights})  # fmt: skip
    epochs += [{**epochs[0], "stage": "select", "order": 1, "tuning_epoch": n + 1, "decisions": n} for n in range(4)]
    epochs += [{"stage": "retrain", "epoch": n + 1, "train_accuracy": 90.0, "test_accuracy": 80.0} for n in range(4)]
    timings = [
        {"stage": stage, "type": "epoch", "seconds": 999.9, "compile_seconds": 99.9, "images": 50_000}
        for stage in ("search", "select", "retrain")
    ]
    texts = {
        "metrics": epochs,
        "decisions": [{"order": 1, "decision": n, **d} for n, d in enumerate(taken, 1)],
        "timings": timings,
    }
    for name, of_name in texts.items():
        (workdir / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in of_name))
    genotype = decided.genotype(space)
    (workdir / "genotype.json").write_text(genotype.to_json())
    sizes = {"parameters": 3_349_342, "multiply_adds": 537_000_000, "milliseconds": 12.34, "device": "NVIDIA H200"}
    network = {"form": "cifar", "cells": 20, "channels": 36, "image": [32, 32, 3]}
    found = [{"architecture": name, **network, **sizes} for name in ("perturbation", "magnitude")]
    (workdir / "networks.json").write_text(json.dumps(found))
    content = {
        "config": config,
        "data_sha256": "0" * 64,
        "image_shape": [32, 32, 3],
        "classes": 10,
        "devices": ["1 gpu"],
    }
    content |= {
        "images": [50_000, 10_000],
        "versions": [{"python": "3.11.7", "jax": "0.10.2", "commit": "0123456789ab"}],
    }
    record.write_text(workdir / "run.json", record.sealed(content))
    assert report.main([str(workdir)]) == 0
    return workdir / "report.html"


CUT = """() => [...document.querySelectorAll("body *")].filter(part => {
  if (!part.checkVisibility() || part.closest("svg, thead")) return false;
  const box = part.getBoundingClientRect(), scrolls = getComputedStyle(part).overflowX !== "visible";
  const outside = box.right > document.documentElement.clientWidth + 0.5 || box.left < -0.5;
  return outside || (scrolls && part.scrollWidth > part.clientWidth + 1);
}).map(part => part.outerHTML.slice(0, 200))"""
"""The parts of a page that do not fit its width."""

CUT_IN_CHARTS = """() => [...document.querySelectorAll(".chart svg")].flatMap(chart => {
  const whole = chart.getBoundingClientRect();
  const cut = (box) => box.width && (box.right > whole.right + 1 || box.left < whole.left - 1 || box.bottom > whole.bottom + 1);
  return [...chart.querySelectorAll("text")].filter(text => cut(text.getBoundingClientRect())).map(text => text.textContent);
})"""
"""The words that do not fit their chart."""

SMALL = """() => [...document.querySelectorAll("main *, header *")].filter(part =>
  part.checkVisibility() && [...part.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
  && parseFloat(getComputedStyle(part).fontSize) < 12).map(part => part.textContent.slice(0, 50))"""
"""Texts smaller than 12 pixels."""

WRAPPED = """() => [...document.querySelectorAll("td.n")].filter(cell => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].map(line => Math.round(line.top))).size > 1;
}).map(cell => cell.textContent)"""
"""Numbers that stand on several lines."""


@shared
@pytest.mark.parametrize("width", [420, 800, 1200, 1400])
def test_the_page_of_a_large_run_is_short_and_nothing_is_cut(large, show, width):
    with show(large, width) as tab:
        height = tab.evaluate("document.documentElement.scrollHeight")
        assert height <= 6000 or width < 1400, height
        for opened in (False, True):
            if opened and width in (800, 1400):
                continue  # as long as the others: 50 more charts
            if opened:
                open_all(tab)
            for wrong in (CUT, CUT_IN_CHARTS, SMALL, WRAPPED):
                assert tab.evaluate(wrong) == []


@shared
def test_the_page_of_a_large_run_says_what_it_was(large):
    body = large.read_text().partition("<body>")[2].partition("<script>")[0]
    text = re.sub("<script.*?</", "", body, flags=re.DOTALL)
    assert "darts_none: operations and inputs selected by perturbation, seed 0" in text
    assert "3,349,342 parameters" in text and "12.3 ms an image on NVIDIA H200" in text and "0123456789ab" in text
    assert "50,000 training and 10,000 test images of 32x32x3, 10 classes" in text
    assert text.count('class="drawing"') == 4 and "By magnitude" in text
    assert text.count('<div class="matrix">') == 2 and text.count('class="e chosen"') == 28
    assert "not recorded" not in text and "just cut down" not in text and "not tuned" not in text


@shared
def test_a_selection_without_tuning_is_called_so(copy):
    alter = lambda line: {**line, "tuning_epoch": 0} if line["stage"] == "select" else line  # noqa: E731
    rewritten(copy, "metrics.jsonl", alter)
    text = built(copy)
    assert cautions.CUT_DOWN in text and "not tuned, validation" in text and "tuning, validation" not in text


@shared
def test_the_matrix_has_the_harm_in_standard_errors_in_the_order_of_the_decisions(whole):
    taken, space = lines(whole, "decisions.jsonl"), SPACES["tiny"]
    for of_kind in matrix.matrices(space, [decisions.described(space, 1, d) for d in taken]):
        mine = [d for d in taken if d["kind"] == of_kind.kind and d["type"] == "operation"]
        assert [row.edge for row in of_kind.rows] == [d["edge"] for d in mine]
        for row, d in zip(of_kind.rows, mine, strict=True):
            entries = dict(zip(of_kind.operations, row.entries, strict=True))
            assert [name for name, entry in entries.items() if entry and entry.role == "chosen"] == [d["choice"]]
            for i, name in enumerate(d["candidates"]):
                drop, error = d["baseline"]["correct"] - d["correct"][i], error_of(d, i)
                assert float(entries[name].text) == pytest.approx(drop / error if error else 0, abs=0.051, rel=0.051)
        kept = {e for d in taken if d["kind"] == of_kind.kind and d["type"] == "topology" for e in d["choice"]}
        assert {row.edge for row in of_kind.rows if row.by and row.stays} == kept

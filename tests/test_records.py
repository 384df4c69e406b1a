"""The records of a run: what reading them imports, and counts in cells whose kinds have other names."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest

from darts_pt_jax import record
from darts_pt_jax.experiments import report
from darts_pt_jax.experiments.config import schema
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.reporting import comparison, decisions, matrix, measures, page, summary
from darts_pt_jax.experiments.reporting.records import RunRecords
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.samplers import SAMPLERS
from darts_pt_jax.selection import direct
from darts_pt_jax.selection.criteria import CRITERIA, Criterion
from darts_pt_jax.spaces import SPACES, SearchSpace, dag

WITHOUT_PARAMETERS = ("skip_connect", "avg_pool_3x3")
RENAMED = SearchSpace(
    name="renamed",
    cells={"flat": dag(2, 1, WITHOUT_PARAMETERS), "shrink": dag(2, 1, WITHOUT_PARAMETERS, reduction=True)},
    layout=lambda cells: ("flat", "shrink") * cells,
    notation="json",
)
"""A space whose reduction cell is not called "reduce"."""


@pytest.fixture
def finished(tmp_path):
    """The records of a finished run of NAS-Bench-201."""
    config = {**schema.defaults(), "space": "nasbench201", "search.epochs": 1}
    weights = {"normal": [[0.1, 0.2, 0.3, 0.4, 0.0]] * 6}
    line = {"stage": "search", "epoch": 1, "valid_accuracy": 50.0, "edge_weights": weights}
    record.write_text(tmp_path / "run.json", record.sealed({"config": config}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    arch = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    (tmp_path / "genotype.json").write_text(Genotype.from_text(arch).to_json())
    return tmp_path


def test_a_run_that_repeats_another_counts_once(finished, tmp_path, capsys):
    places = [finished, *(tmp_path / name for name in ("twin", "seed1", "rounded"))]
    files = {name: (finished / name).read_text() for name in ("run.json", "metrics.jsonl", "genotype.json")}
    content = record.unsealed(files["run.json"].encode())
    changes = {"twin": {"data.path": "moved.npz"}, "seed1": {"seed": 1}, "rounded": {}}
    for place in places[1:]:
        place.mkdir()
        for name, text in files.items():
            (place / name).write_text(text)
        config = content["config"] | changes[place.name]
        record.write_text(place / "run.json", record.sealed({**content, "config": config}))
    (tmp_path / "rounded" / "metrics.jsonl").write_text(files["metrics.jsonl"].replace("50.0", "50.000001"))
    page = tmp_path / "page.html"
    assert report.main([*map(str, places), "--out", str(page)]) == 0
    text = page.read_text()
    assert "<h1>3 runs compared</h1>" in text and text.count("not counted again") == 1
    assert f"{tmp_path / 'twin'} repeats {finished} (the same config, seeds and records)" in text


def test_reading_a_run_imports_neither_jax_nor_the_engine(finished):
    program = f"""
import pathlib, sys
import darts_pt_jax.experiments.reporting.records as records

config = records.config_of(records.read_run(pathlib.Path({str(finished)!r})))
found = records.RunRecords.read(pathlib.Path({str(finished)!r}), config)
print(*(genotype.text("nasbench201") for genotype in found.architectures(config).values()))
print(*records.command(found))
found.phases()
print([name for name in sys.modules if name == "jax" or name.startswith("darts_pt_jax.experiments.engine")])
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    chosen, command, imported = said.splitlines()
    third = SPACES["nasbench201"].cells["normal"].edges[0].candidates[3]
    assert chosen.split()[1] == f"|{third}~0|+|{third}~0|{third}~1|+|{third}~0|{third}~1|{third}~2|"
    assert "--config.space=nasbench201" in command and imported == "[]"


@pytest.fixture
def renamed(monkeypatch):
    monkeypatch.setitem(SPACES, "renamed", RENAMED)
    config = Config(space="renamed")
    node = (("skip_connect", 0), ("avg_pool_3x3", 1))
    genotype = Genotype({"flat": (node,), "shrink": (node,)}, {"flat": (2,), "shrink": (2,)})
    return config, genotype


def test_the_graph_and_not_the_name_makes_a_reduction_cell(renamed):
    config, genotype = renamed
    values = measures.measure(config, RunRecords([], [], [], [genotype], {}, None))
    assert values == {"operations without parameters, flat cell": 2}
    text = "\n".join(summary._operations(RENAMED, {"perturbation": genotype}))
    assert text.count("*without parameters*") == 1 and "| flat | *without parameters* | 2 |" in text
    config = config.changed({"genotype": "a file"})  # then there is no space, and the network reduces in "reduce"
    given = Genotype(
        {"normal": genotype.cells["flat"], "reduce": genotype.cells["flat"]}, {"normal": (2,), "reduce": (2,)}
    )
    assert list(measures.measure(config, RunRecords([], [], [], [given], {}, None))) == [
        "operations without parameters, normal cell"
    ]


@pytest.mark.parametrize(("method", "pairs"), [("perturbation", 14 + 4 - 1), ("sgas", 8)])
def test_how_many_decisions_a_run_takes(method, pairs):
    """For each kind: one for each edge and for each node with more than two inputs; with SGAS, two for each node."""
    taken = [{"pruned": []}] if method == "sgas" else [{}]
    assert decisions.in_all(SPACES["s3"], 1, taken) == 2 * pairs
    assert decisions.in_all(SPACES["s3"], 3, taken) == 6 * pairs


@pytest.fixture
def criterion(monkeypatch):
    """A custom criterion: the mean confidence of the supernet."""
    row = Criterion("sure", None, "sureness", False, False, "drop in sureness", "in sureness", "sureness", "sureness")
    monkeypatch.setitem(CRITERIA, "sure", row)
    return row


def test_the_page_and_the_markdown_take_their_words_from_the_criterion(criterion):
    space, n = SPACES["s2"], 100
    scored = {
        "images": n, "correct": [40, 48], "loss": [1.5, 1.25], "sureness": [0.25, 0.75],
        "baseline": {"correct": 50, "loss": 1.0, "sureness": 0.875},
        "paired": {name: [[0, 20, 16], [20, 0, 18], [16, 18, 0]] for name in ("correct", "loss", "sureness")},
    }  # fmt: skip
    taken = {
        "type": "operation", "kind": "normal", "edge": 0, "order": 1, "decision": 1, "criterion": "sure",
        "candidates": ["skip_connect", "sep_conv_3x3"], "eligible": [0, 1], "choice": "skip_connect", "choice_index": 0,
        "margin": 0.5, **scored,
    }  # fmt: skip
    decision = decisions.described(space, 1, taken)
    (verdict,), (figure,) = decision.verdicts, decision.figures
    assert (verdict.choice, verdict.runner_up, verdict.lead, verdict.unit) == (
        "skip_connect",
        "sep_conv_3x3",
        "0.5",
        "in sureness",
    )
    harms = ["accuracy drop, points", "rise in loss", "drop in sureness"]
    assert list(figure.table.head) == ["removed", "right", harms[0], "loss", harms[1], "sureness", harms[2], ""]
    assert figure.table.caption.endswith("100 images, right and mean loss and mean sureness after each removal")
    skip = figure.table.rows[1]
    assert (skip[1], skip[2][:5], skip[5], skip[6][:6], skip[7]) == ("40", "10.00", "0.2500", "0.6250", "kept")
    assert [point["drop in sureness"] for point in figure.spec["datasets"]["rows"]] == [0.625, 0.125]
    leads = decisions.leads(criterion, [decision])
    assert leads.table.head[4] == "lead in sureness" and leads.spec["datasets"]["rows"][0]["lead in sureness"] == 0.5
    assert summary._lead(taken) == "0.5 in sureness"


def test_the_page_takes_its_words_from_the_strategy():
    taken = {
        "type": "operation", "kind": "normal", "edge": 0, "order": 1, "decision": 1, "strategy": "keep_one",
        "candidates": ["skip_connect", "sep_conv_3x3"], "eligible": [0, 1], "choice": "sep_conv_3x3", "choice_index": 1,
        "margin": 8, "criterion": "acc", "images": 100, "correct": [40, 48], "baseline": {"correct": 50},
    }  # fmt: skip
    decision = decisions.described(SPACES["s2"], 1, taken)
    (verdict,), (figure,) = decision.verdicts, decision.figures
    assert (verdict.choice, verdict.runner_up, verdict.lead) == ("sep_conv_3x3", "skip_connect", "8")
    paired = {**taken, "paired": {"correct": [[0, 10, 2], [10, 0, 8], [2, 8, 0]]}}
    scored = decisions.described(SPACES["s2"], 1, paired)
    assert figure.table.head[0] == "left alone" and figure.table.caption.endswith("right with each operation alone")
    assert [(row[0], row[2], row[3]) for row in figure.table.rows] == [
        ("nothing", "", ""), ("skip_connect", "10.00", "runner-up"), ("sep_conv_3x3", "2.00", "kept"),
    ]  # fmt: skip

    names = ("strategy", "correct", "baseline", "margin", "criterion")
    taken = {key: value for key, value in taken.items() if key not in names}
    taken |= {"strategy": "first_order", "criterion": "loss", "first_order": [0.0125, 0.5], "margin": 0.4875}
    decision = decisions.described(SPACES["s2"], 1, taken)
    (figure,) = decision.figures
    assert figure.table.head[:2] == ("candidate", "|w dL/dw|") and not decision.verdicts
    assert [row[:2] for row in figure.table.rows] == [("skip_connect", "0.0125"), ("sep_conv_3x3", "0.5")]
    (of_kind,) = matrix.matrices(SPACES["s2"], [decision])
    entries = [(entry.text, entry.strength, entry.role) for entry in of_kind.rows[0].entries]
    assert entries == [("0.013", 0.025, ""), ("0.5", 1.0, "chosen")]
    assert summary._lead(taken) == "0.4875 in loss"
    assert page._how_sure(Config(), [decision, scored]) == (
        "How sure", "0 of 1 decisions within noise",
        "a runner-up is less than 2 paired standard errors behind; no error is known of the others, by |w dL/dw|",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "title"), [("edge_weights", "weight"), ("shapley", "Shapley value")])
def test_operations_and_inputs_name_what_decided_where_no_masks_were_scored(name, title):
    space, rng = SPACES["s2"], np.random.RandomState(0)
    values = {kind: rng.rand(len(graph.edges), graph.width) for kind, graph in space.cells.items()}
    first, *_, last = direct.records(space, values, direct.magnitude(space, values, rng), name)
    assert (first["type"], last["type"]) == ("operation", "topology")
    for taken in (first, last):
        decision = decisions.described(space, 1, {**taken, "order": 1, "decision": 1})
        assert decision.measure == title == decision.figures[0].table.head[1]
        assert summary._lead(taken).endswith(f" in {title}")


@pytest.mark.parametrize(
    ("keys", "method"),
    [
        ({}, "DARTS"),
        ({"search.alpha": "fixed"}, "DARTS, fixed alphas"),
        ({"search.sampler": "fixed"}, "DARTS, fixed alphas"),
        ({"search.sampler": "fixed", "search.alpha": "fixed"}, "DARTS, fixed alphas"),
        ({"search.sampler": "sdarts_rs", "search.unrolled": "exact"}, "SDARTS-RS, second order"),
        ({"search.sampler": "of_ones_own"}, "of_ones_own"),
    ],
)
def test_what_the_comparison_calls_a_method(keys, method, monkeypatch):
    monkeypatch.setitem(SAMPLERS, "of_ones_own", SAMPLERS["darts"])
    assert comparison.method_of(Config().changed(keys)) == method


def test_what_cannot_be_written_gives_the_reason_of_the_system(tmp_path):
    inner = record.WriteError(tmp_path / "manifest.json", OSError(errno.ENOSPC, "full"), 10)
    outer = record.WriteError(tmp_path / "1", inner, 1000)
    assert str(outer) == f"{tmp_path}/1: cannot write 1,000 bytes: No space left on device"


def test_selections_agree_on_the_edges_that_both_have_decided():
    taken = [
        {"type": "operation", "order": order, "kind": kind, "edge": edge, "choice": choice}
        for order, kind, edge, choice in [
            (1, "normal", 1, "a"), (1, "normal", 0, "b"), (1, "reduce", 0, "a"), (2, "normal", 0, "a"), (2, "normal", 1, "a"),
        ]
    ]  # fmt: skip
    one, two = (measures.operations([*taken, {"type": "topology", "order": 1}], order) for order in (1, 2))
    assert one == {("normal", 0): "b", ("normal", 1): "a", ("reduce", 0): "a"} and len(two) == 2
    assert measures.agreement(one, two) == 50 and measures.agreement(one, one) == 100
    assert measures.agreement(one, {}) is None

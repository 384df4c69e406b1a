"""The paper's analyses: their arithmetic against plain, slow computations, and their commands on a tiny search."""

import csv
import dataclasses
import itertools
import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from darts_pt_jax import bilevel, ops, record
from darts_pt_jax.experiments.analysis import (
    ANALYSES,
    alpha_gap,
    collapse,
    figures,
    result,
    strength,
    swaps,
    tables,
    variance,
)
from darts_pt_jax.experiments.analysis import __main__ as analysis
from darts_pt_jax.experiments.analysis.layered import Layer, LayeredNetwork
from darts_pt_jax.experiments.config.schema import flatten
from darts_pt_jax.experiments.reporting import measures
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop import published
from darts_pt_jax.spaces import SPACES, SearchSpace, dag
from darts_pt_jax.supernet import Supernet
from tests import tiny
from tests.command import TINY, digests, lines, run, stopping_at

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_training")]

PAIR = SearchSpace(
    name="pair",
    cells={"normal": dag(2, 1, ("skip_connect", "nor_conv_1x1"))},
    layout=lambda cells: ("normal",) * cells,
    stem_multiplier=1,
)
"""A cell whose only node has an edge from each of the two inputs."""


def test_the_gap_is_a_mean_over_the_edges_that_have_both():
    weights = {
        "normal": [
            [0.5, 0.2], [0.1, 0.2, 0.7], [0.9, 0.1], [0.3, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.6, 0.1, 0.3], [0.5, 0.5],
            [0.2, 0.2, 0.6], [1.0, 0.0],
        ],
        "reduce": [[0.5, 0.5]] * 9,
    }  # fmt: skip
    # edges 1, 3, 5, 7 have skip_connect and nor_conv_1x1; the others no convolution, or, in the reduction cell, neither
    assert alpha_gap.gap(tiny.SPACE, weights) == pytest.approx(
        ((0.1 - 0.7) + (0.3 - 0.4) + (0.6 - 0.3) + (0.2 - 0.6)) / 4
    )
    bench = {"normal": [[0.1, 0.4, 0.2, 0.1, 0.2]] * 6}
    assert alpha_gap.gap(SPACES["nasbench201"], bench) == pytest.approx(0.4 - (0.2 + 0.1) / 2)
    assert alpha_gap.gap(SPACES["s4"], {kind: [[0.5, 0.5]] * 14 for kind in ("normal", "reduce")}) is None


def test_rank_correlations():
    assert measures.correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx({"spearman": 0.8, "kendall": 2 / 3})
    assert measures.correlation([1, 1], [2, 3]) == {"spearman": None, "kendall": None}


def test_strength_is_summarised_over_edges():
    values = {
        0: [("a", 0.6, 70.0), ("b", 0.4, 60.0)],
        1: [("a", 0.7, 50.0), ("b", 0.3, 55.0)],
        2: [("a", 0.2, 1.0), ("b", 0.8, 1.0)],
    }
    rows = [
        {"kind": "normal", "edge": e, "operation": name, "weight": weight, "accuracy": accuracy}
        for e, entries in values.items() for name, weight, accuracy in entries
    ]  # fmt: skip
    assert strength.summarise(rows) == {
        "edges": 3, "edges_agreeing": 1, "edges_tied": 1, "mean_spearman": pytest.approx(0),
        "by_operation": {"a": {"largest weight": 2, "strongest": 1}, "b": {"largest weight": 1, "strongest": 1}},
    }  # fmt: skip


@pytest.mark.parametrize("near", [0.2, 0.9])
def test_optimal_weights_minimise_the_variance_of_the_estimate(near, rng):
    m, noise = rng.normal(size=(2, 4, 3, 3, 2))
    x, o = near * m + noise, m + rng.normal(size=m.shape)
    found = variance.optimal(x, o, m)
    best = minimize_scalar(lambda theta: np.var(theta * x + (1 - theta) * o - m, ddof=1)).x
    assert found["optimal_skip"] == pytest.approx(best, abs=1e-5)
    assert found["var_skip"] == pytest.approx(np.var(x - m, ddof=1))
    assert np.exp(found["alpha_difference"]) == pytest.approx(best / (1 - best), rel=1e-4)


def test_where_a_numerator_is_not_positive_there_are_no_optimal_alphas(rng):
    m, noise = rng.normal(size=(2, 4, 3, 3, 2))
    found = variance.optimal(m + 2 * noise, m + noise, m)  # the covariance exceeds the smaller variance
    assert found["alpha_difference"] is None and found["optimal_skip"] == pytest.approx(-1)
    assert variance.optimal(m, m, m)["alpha_difference"] is None


def test_variances_of_a_cell_are_those_of_its_operations_outputs(key):
    space = SPACES["s2"]
    net, graph = Supernet(space, 3, 2, 3), space.cells["normal"]
    state = tiny.state(net, key)
    weights = {kind: np.asarray(rows) for kind, rows in tiny.weights(net, state).items()}
    images = jax.random.normal(key, (4, 8, 8, 2))
    collect = ["batch_stats", "intermediates"]
    _, updated = net.apply(state.variables, images, weights, True, mutable=collect)
    cell = jax.device_get(updated["intermediates"])["cells_0"]
    rows = {row["edge"]: row for row in variance.estimate(graph, cell, weights["normal"])}
    assert len(rows) == len(graph.edges)

    def standard(y):
        flat = np.asarray(y, np.float64).reshape(-1, y.shape[-1])
        return np.stack([(c - c.mean()) / c.std() for c in flat.T])

    skip = {e: cell[f"from_{graph.edges[e].source}_skip_connect"][0][i] for e, i in places(graph, "skip_connect")}
    conv = {e: cell[f"from_{graph.edges[e].source}_sep_conv_3x3"][0][i] for e, i in places(graph, "sep_conv_3x3")}
    node = [e for e, edge in enumerate(graph.edges) if edge.target == 3]
    assert len(node) == 3
    m = standard(sum(weights["normal"][e, 0] * skip[e] + weights["normal"][e, 1] * conv[e] for e in node) / 3)
    for e in node:
        assert rows[e]["var_skip"] == pytest.approx(np.var(standard(skip[e]) - m, ddof=1), rel=1e-5)
        assert rows[e]["var_rest"] == pytest.approx(np.var(standard(conv[e]) - m, ddof=1), rel=1e-5)
        assert rows[e]["learned_skip"] == pytest.approx(weights["normal"][e, 0], rel=1e-5)
    # the outputs of operations are collected: at stride 1, skip_connect passes the same state to all edges
    np.testing.assert_array_equal(skip[0], skip[2])


def places(graph, name):
    return [(e, i) for g in graph.groups if g.operation == name for i, e in enumerate(g.edges)]


def test_swapping_edges_is_swapping_their_inputs(key):
    """With one node, swapping its two edges equals swapping the states that they read."""
    net = Supernet(PAIR, 1, 4, 3)
    state = tiny.state(net, key)
    weights = tiny.weights(net, state)
    images, labels = jax.random.normal(key, (6, 8, 8, 2)), jnp.zeros(6, jnp.int32)

    def logits(variables, weights):
        return net.apply(variables, images, weights, False)

    before = logits(state.variables, weights)
    moved, moved_weights = swaps.swap_edges(net, state.variables, weights, {"normal": (0, 1)})
    after = logits(moved, moved_weights)
    assert abs(after - before).max() > 1e-3
    crossed = {
        collection: {**tree, "cells_0": {
            **tree["cells_0"], "preprocess_0": tree["cells_0"]["preprocess_1"], "preprocess_1": tree["cells_0"]["preprocess_0"],
        }} for collection, tree in state.variables.items()
    }  # fmt: skip
    np.testing.assert_allclose(after, logits(crossed, weights), rtol=1e-5, atol=1e-6)
    again = swaps.swap_edges(net, moved, moved_weights, {"normal": (0, 1)})
    np.testing.assert_array_equal(logits(*again), before)
    assert bilevel.forward(net, moved, moved_weights, images, labels, key, False)[0].images == 6


def test_a_swapped_edge_takes_its_variables_along(key):
    net = Supernet(SPACES["s2"], 3, 2, 3)
    state = tiny.state(net, key)
    swapped = {"normal": (1, 10), "reduce": (0, 6)}
    moved, _ = swaps.swap_edges(net, state.variables, tiny.weights(net, state), swapped)

    def by_edge(variables):
        found = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
            names = [entry.key for entry in path]
            group = net.group_of(names)
            if group is None:
                found[tuple(names)] = leaf
            for i, e in enumerate(group.edges if group else ()):
                within = (name for name in names if name != group.label)
                found[(e, group.operation, *within)] = leaf[i]
        return found

    before, after = by_edge(state.variables), by_edge(moved)
    assert before.keys() == after.keys()
    kinds, changed = net.space.layout(3), set()
    for name, leaf in after.items():
        place = name
        if isinstance(name[0], int):
            cell = next(n for n in name if str(n).startswith("cells_"))
            a, b = swapped[kinds[int(cell[6:])]]
            place = ({a: b, b: a}.get(name[0], name[0]), *name[1:])
            changed |= {cell} if place != name else set()
        np.testing.assert_array_equal(leaf, before[place], err_msg=str(name))
    assert len(changed) == 3, "in every cell"


def test_only_edges_of_the_same_stride_and_candidates_are_swapped():
    graph = SPACES["s2"].cells["reduce"]
    allowed = swaps.pairs(graph)
    assert set(allowed) == {
        (a, b) for a, b in itertools.combinations(range(14), 2) if graph.edges[a].stride == graph.edges[b].stride
    }
    assert (0, 4) not in swaps.pairs(tiny.SPACE.cells["normal"]), "they have other candidates"
    assert swaps.fixed_operations(SPACES["darts"]) == ["avg_pool_3x3", "max_pool_3x3"]
    assert not any(map(swaps.fixed_operations, (SPACES[name] for name in ("s2", "s3", "s4", "nasbench201"))))


@pytest.mark.parametrize("residual", [False, True])
def test_layers_are_swapped(residual, key):
    net = LayeredNetwork(4, 3, residual, 5)
    images = jax.random.normal(key, (2, 8, 8, 3))
    larger = lambda leaf: 3 * leaf if leaf.ndim == 4 else leaf  # noqa: E731  else little goes through so many layers
    variables = jax.tree.map(larger, net.init(key, images, False))
    swapped = swaps.swap_layers(variables, [(0, 2), (0, 1), (1, 2)])

    def by_hand(orders):
        x = images
        for stage, order in enumerate(orders):
            params, stats = variables["params"], variables["batch_stats"]
            x = ops.Conv(4 << stage, 3, 1 + (stage > 0)).apply({"params": params[f"enter_{stage}"]}, x)
            norm = {"params": params[f"enter_norm_{stage}"], "batch_stats": stats[f"enter_norm_{stage}"]}
            x = jax.nn.relu(ops.Norm(affine=True).apply(norm, x, False))
            for i in order:
                name = f"stage_{stage}_layer_{i}"
                x = Layer(4 << stage, residual).apply({"params": params[name], "batch_stats": stats[name]}, x, False)
        head = variables["params"]["head"]
        return x.mean((1, 2)) @ head["kernel"] + head["bias"]

    expected = by_hand([(2, 1, 0), (1, 0, 2), (0, 2, 1)])
    np.testing.assert_allclose(net.apply(swapped, images, False)[0], expected, rtol=1e-3, atol=1e-5)
    assert abs(expected - by_hand([range(3)] * 3)).max() > 1e-2


SEARCH = {**TINY, "select.interval": 1, "stages": "search,select", "checkpoint.snapshots": "(1,)", "tensorboard": False}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("searched") / "run"
    assert run(workdir, SEARCH) == 0
    return workdir


@pytest.fixture(scope="module")
def benched(tmp_path_factory):
    """A search of NAS-Bench-201, and a table of made-up accuracies."""
    workdir = tmp_path_factory.mktemp("benched") / "run"
    assert run(workdir, {**SEARCH, "space": "nasbench201", "stages": "search"}) == 0
    names = [SPACES["nasbench201"].cells["normal"].edges[0].candidates] * 6
    archs = ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*chosen) for chosen in itertools.product(*names)]
    metrics = np.random.default_rng(0).uniform(10, 90, (len(archs), 3)).astype(np.float32)
    table = workdir.parent / "table.npz"
    np.savez(
        table, arch=np.array(archs, "S"), metric_names=np.array(["c10_test", "c100_test", "in16_test"]), metrics=metrics
    )
    return workdir, table, dict(zip(archs, metrics[:, 0].tolist(), strict=True))


def reconfigured(workdir, keys):
    """Changes keys of the config in run.json, and returns the file's content."""
    content = record.unsealed((workdir / "run.json").read_bytes())
    content["config"] |= keys
    record.write_text(workdir / "run.json", record.sealed(content))
    return content


def analysed(name, workdir, out, *more):
    """Runs an analysis and returns its results; checks the promises of all analyses."""
    before = digests(workdir)
    assert analysis.main([name, "--run", str(workdir), "--out", str(out), *map(str, more)]) == 0
    assert digests(workdir) == before, "the run is only read"
    found = json.loads((out / "numbers.json").read_text())
    assert (found["analysis"], found["paper"]) == (name, ANALYSES[name].paper)
    with (out / "rows.csv").open() as file:
        table = list(csv.DictReader(file))
    told = [{k: "" if v is None else str(v) for k, v in row.items()} for row in found["rows"]]
    assert table == told
    drawn = list(out.glob("*.svg"))
    assert drawn and all(figure.with_suffix(".png").stat().st_size > 1000 for figure in drawn)
    assert (out / "summary.md").read_text().startswith(f"# {name}: ")
    one = result.Result(found["numbers"], found["rows"], "", context=found["context"])
    ANALYSES[name].draw("of two runs", [one, one])
    return found["context"] | found["numbers"], found["rows"]


@pytest.mark.xdist_group("analysis")
def test_alpha_gap_and_curvature_use_the_epochs_of_the_run(searched, tmp_path):
    metrics = [m for m in lines(searched, "metrics.jsonl") if m["stage"] == "search"]
    _, rows = analysed("alpha_gap", searched, tmp_path / "gap")
    assert [row["valid_accuracy"] for row in rows] == [m["valid_accuracy"] for m in metrics]
    assert [row["gap"] for row in rows] == [alpha_gap.gap(tiny.SPACE, m["edge_weights"]) for m in metrics]
    _, rows = analysed("curvature", searched, tmp_path / "curvature", "--images", 32)
    assert [row["epoch"] for row in rows] == [1, 2] and all(row["eigenvalue"] for row in rows)


@pytest.mark.xdist_group("analysis")
def test_curvature_from_the_records_and_from_the_supernets(tmp_path):
    keys = {**SEARCH, "space": "cell", "stages": "search", "curvature.every": 1, "curvature.images": 32}
    assert run(tmp_path / "run", keys) == 0
    _, rows = analysed("curvature", tmp_path / "run", tmp_path / "out")
    assert [row["eigenvalue"] for row in rows] == [m["curvature"] for m in lines(tmp_path / "run", "metrics.jsonl")]
    _, again = analysed("curvature", tmp_path / "run", tmp_path / "again", "--images", 32)
    for one, other in zip(rows, again, strict=True):
        assert (one["epoch"], pytest.approx(one["eigenvalue"], rel=1e-2)) == (other["epoch"], other["eigenvalue"])


@pytest.mark.xdist_group("analysis")
def test_strength_is_the_accuracy_with_an_edge_discretised(searched, tmp_path):
    _, rows = analysed("strength", searched, tmp_path / "out", "--edges", "normal:1", "--epochs", 0)
    names = tiny.SPACE.cells["normal"].edges[1].candidates
    assert [row["operation"] for row in rows] == list(names)
    subject = opened(searched, tmp_path)
    weights = jax.device_get(tiny.weights(subject.training.net, subject.state))
    steps = subject.training.valid.size // 32
    for o, row in enumerate(rows):
        assert row["weight"] == pytest.approx(weights["normal"][1, o], rel=1e-6)
        fixed = {kind: rows.copy() for kind, rows in weights.items()}
        fixed["normal"][1] = np.eye(len(fixed["normal"][1]))[o]
        correct = 0
        for i in range(steps):
            batch = (subject.training.valid, np.arange(32 * i, 32 * i + 32), jax.random.fold_in(subject.key(0), i))
            evaluate = bilevel.make_evaluate(subject.training.net, False, False)
            logits, labels = evaluate(subject.state.variables, fixed, batch)
            correct += int((logits.argmax(-1) == labels).sum())
        assert row["accuracy"] == pytest.approx(100 * correct / (32 * steps))


def test_a_collapse_lasts_to_the_end():
    def points(*counts):
        return [{"step": 10 * (i + 1), "skip_edges": count, "edges": 6} for i, count in enumerate(counts)]

    assert collapse.collapsed(points(1, 6, 6)) == 20
    assert collapse.collapsed(points(6, 5, 6)) == 30
    assert collapse.collapsed(points(6, 6, 5)) is None


def test_edges_with_skip_connect_are_those_that_offer_something_else():
    edges = [[0.1, 0.5, 0.2, 0.1, 0.1], [0.3, 0.2, 0.2, 0.2, 0.1]] * 3
    assert collapse.skip_edges(SPACES["nasbench201"], {"normal": edges}) == (3, 6)
    weights = {
        kind: [[0.9, 0.1][: len(edge.candidates)] + [0.0] * 2 for edge in graph.edges]
        for kind, graph in tiny.SPACE.cells.items()
    }
    # edges 0 to 3 and 5 to 8 begin with skip_connect, edge 4 with none; no edge of the reduction cell offers it
    assert collapse.skip_edges(tiny.SPACE, weights) == (8, 9)


@pytest.mark.xdist_group("analysis-bench")
def test_collapse_compares_searches_of_any_settings(benched, tmp_path, capsys):
    workdir, _, _ = benched
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    content = reconfigured(other, {"search.alpha_learning_rate": 0.1, "seed": 7, "data.examples": 0})
    skips = {"normal": [[0.1, 0.6, 0.1, 0.1, 0.1]] * 6}
    changed = [m | {"edge_weights": skips} if m.get("epoch") == 2 else m for m in lines(other, "metrics.jsonl")]
    (other / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    assert analysis.main(["collapse", "--run", str(workdir), str(other), "--out", str(tmp_path / "out")]) == 0
    steps = 130 // 2 // 32
    assert f"| other | 0 | 0.1 | 7 | {2 * steps} | 6 of 6 | {2 * steps} |" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert found["numbers"]["keys"] == ["data.examples", "search.alpha_learning_rate"]
    assert [row["step"] for row in found["rows"]] == [steps, 2 * steps] * 2
    space = SPACES["nasbench201"]
    assert [row["skip_edges"] for row in found["rows"][:2]] == [
        collapse.skip_edges(space, m["edge_weights"])[0] for m in lines(workdir, "metrics.jsonl") if m["stage"] == "search"
    ]  # fmt: skip
    assert (tmp_path / "out" / "collapse.svg").exists()
    settings = [(one["seeds"], one["collapsed"], one["from_step"]) for one in found["numbers"]["settings"]]
    assert settings[1] == (1, 1, {"mean": 2 * steps, "smallest": 2 * steps, "largest": 2 * steps})
    shutil.copytree(workdir, tmp_path / "one")
    reconfigured(tmp_path / "one", {"search.schedule_epochs": 9})
    content = reconfigured(other, {"search.schedule_epochs": 9, "search.epochs": 5})
    assert analysis.main(["collapse", "--run", str(tmp_path / "one"), str(other), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert found["numbers"]["keys"] == ["data.examples", "search.alpha_learning_rate"], (
        "one schedule, of which 5 epochs"
    )
    del content["images"]
    record.write_text(other / "run.json", record.sealed(content))
    assert analysis.main(["collapse", "--run", str(other), "--out", str(tmp_path / "out")]) == 2
    assert f"--run {other}: an early version wrote it, without its number of images" in capsys.readouterr().err
    shutil.copytree(workdir, tmp_path / "copy")
    again = ["collapse", "--run", str(workdir), str(tmp_path / "copy"), "--out", str(tmp_path / "out")]
    assert analysis.main(again) == 2
    assert f"{tmp_path / 'copy'}: the same search as {workdir}" in capsys.readouterr().err


def test_numbers_of_several_runs_are_summarised_by_name():
    one, other = ({"a": {"b": value}, "same": 2, "text": "t", "yes": True} for value in (1.0, 4.0))
    assert result.over_runs([one, {**other, "only here": 1}]) == {
        "a.b": {"mean": 2.5, "sd": pytest.approx(4.5**0.5), "smallest": 1.0, "largest": 4.0, "runs": 2},
        "same": {"mean": 2, "sd": 0, "smallest": 2, "largest": 2, "runs": 2},
        "only here": {"mean": 1, "sd": None, "smallest": 1, "largest": 1, "runs": 1},
    }
    both = result.joined({"a": result.Result(one, [], "says"), "b": result.Result(other, [], "| a |\n| table |")})
    assert both.says.startswith("a: says\n\nb:\n\n| a |\n| table |\n\n|  | mean | smallest | largest | seeds |")
    assert both.says.splitlines()[-2:] == ["| a.b | 2.5 | 1 | 4 | 2 |", "| same | 2 | 2 | 2 | 2 |"]


def test_a_curve_is_the_mean_with_a_band_over_the_runs():
    _, (axes,) = figures.panels("", [("x", "y")])
    line = figures.curve(axes, [[(1, 10), (2, 20)], [], [(2, 40), (1, 30), (3, 5)]], label="mean")
    assert line.get_xydata().tolist() == [[1, 20], [2, 30]], "a run has no 3, another has no point"
    assert line.get_label() == "mean (2 of 3 seeds)"
    (band,) = axes.collections
    assert {(1, 10), (1, 30), (2, 20), (2, 40)} == set(map(tuple, band.get_paths()[0].vertices[:-1].tolist()))
    _, (axes,) = figures.panels("", [("x", "y")])
    line = figures.curve(axes, [[(1, 10), (2, 20), (2, 30)]])
    assert line.get_xydata().tolist() == [[1, 10], [2, 20], [2, 30]], "both points at 2"
    assert not axes.collections, "one run has no range"
    assert figures.point(axes, [(1, 10), (3, 40)]) == (2, 25)
    (bars,) = axes.containers
    ends = [line.get_segments()[0].tolist() for line in bars[2]]
    assert sorted(ends) == [[[1, 25], [3, 25]], [[2, 10], [2, 40]]]


def test_a_lone_point_has_a_bar_over_the_runs():
    _, (axes,) = figures.panels("", [("x", "y")])
    figures.curve(axes, [[(5, 60)], [(5, 93)]])
    (bars,) = axes.containers
    np.testing.assert_allclose(bars[2][0].get_segments()[0], [[5, 60], [5, 93]])


@pytest.mark.xdist_group("analysis")
def test_runs_that_differ_in_their_seeds_are_analysed_together(searched, tmp_path, capsys):
    def copied(name, **keys):
        workdir = tmp_path / name
        shutil.copytree(searched, workdir)
        reconfigured(workdir, {key.replace("__", "."): value for key, value in keys.items()})
        raised = [
            m | {"valid_accuracy": m["valid_accuracy"] + 10}
            for m in lines(workdir, "metrics.jsonl")
            if "valid_accuracy" in m
        ]
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in raised))
        return workdir

    second, out = copied("second", seed=1), tmp_path / "out"
    assert analysis.main(["alpha_gap", "--run", str(searched), str(second), "--out", str(out)]) == 0
    said, found = capsys.readouterr().out, json.loads((out / "numbers.json").read_text())
    assert "run: gap" in said and "second: gap" in said
    by_run = {name: [row for row in found["rows"] if row["run"] == name] for name in ("run", "second")}
    for one, other in zip(*by_run.values(), strict=True):
        assert (other["epoch"], other["gap"]) == (one["epoch"], one["gap"])
        assert other["valid_accuracy"] == one["valid_accuracy"] + 10
    gap = by_run["second"][-1]["gap"]
    assert found["numbers"]["over_runs"]["last_gap"] == {
        "mean": gap, "sd": 0, "smallest": gap, "largest": gap, "runs": 2,
    }  # fmt: skip
    assert found["numbers"]["by_run"]["second"]["last_gap"] == gap and found["context"]["second"] == {"epochs": 2}
    assert f"| last_gap | {gap:.4g} | {gap:.4g} | {gap:.4g} | 2 |" in (out / "summary.md").read_text().splitlines()
    assert (out / "alpha_gap.svg").exists()
    for other, place, message in (
        (
            copied("other", search__learning_rate=0.1, seed=1),
            out,
            f"other: differs from {searched} in search.learning_rate: the",
        ),
        (copied("same"), out, f"same: the same search as {searched}: name one of them"),
        (second, "", "--out is missing: name a folder for what alpha_gap finds in 2 runs"),
        (second, tmp_path, f"--out {tmp_path} writes into a run, which is only read"),
    ):
        assert analysis.main(["alpha_gap", "--run", str(searched), str(other), "--out", str(place)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.xdist_group("analysis")
def test_selections_of_several_runs_have_a_folder_for_each_run(searched, tmp_path):
    second, out = tmp_path / "second", tmp_path / "out"
    shutil.copytree(searched, second)
    (second / "genotype.json").unlink()
    reconfigured(second, {"seed": 1})
    assert analysis.main(["cells", "--run", str(searched), str(second), "--out", str(out)]) == 0
    assert not (out / "run" / "perturbation").exists(), "the run has selected by perturbation"
    chosen = Genotype.from_json((out / "second" / "perturbation" / "genotype.json").read_text())
    rows = json.loads((out / "numbers.json").read_text())["rows"]
    ours = [r["operation"] for r in rows if (r["run"], r["selection"]) == ("second", "perturbation")]
    assert ours == [o for kind in chosen.cells for o in chosen.operations(kind)]
    drawn = {file.stem for file in out.glob("*.svg")}
    kinds = [f"{s}-{kind}" for s in ("magnitude", "perturbation") for kind in tiny.SPACE.cells]
    assert drawn == {f"{name}-{kind}" for name in ("run", "second") for kind in kinds}


def opened(workdir, tmp_path):
    from darts_pt_jax.experiments.analysis.subject import Subject
    from darts_pt_jax.experiments.engine.interrupts import Interrupts

    return Subject(workdir, {}, tmp_path / "opened", Interrupts())


@pytest.mark.xdist_group("analysis")
def test_an_interrupted_analysis_continues(searched, tmp_path, monkeypatch, capsys):
    asked = "strength", searched, tmp_path / "out", "--edges", "normal:1", "--epochs", 1
    whole, calls = strength._discretised, []
    monkeypatch.setattr(strength, "_discretised", stopping_at(2, whole))
    code = analysis.main([asked[0], "--run", str(searched), "--out", str(asked[2]), *map(str, asked[3:])])
    assert code == 128 + signal.SIGTERM and not (asked[2] / "numbers.json").exists()
    monkeypatch.setattr(strength, "_discretised", lambda *args: calls.append(args[1:4]) or whole(*args))
    _, rows = analysed(*asked)
    assert [operation for _, _, operation in calls] == [1, 2], "the first result exists already"
    assert all(0 <= row["accuracy"] <= 100 for row in rows)
    _, again = analysed(*asked)
    assert again == rows and len(calls) == 2
    _, afresh = analysed(asked[0], searched, tmp_path / "afresh", *asked[3:])
    assert afresh == rows, "the same seed gives the same numbers"
    capsys.readouterr()
    other = ["strength", "--run", str(searched), "--out", str(asked[2]), "--edges", "normal:1", "--epochs", "2"]
    assert analysis.main(other) == 2
    assert "name another --out" in capsys.readouterr().err


@pytest.mark.xdist_group("analysis")
def test_selections_side_by_side(searched, tmp_path, capsys):
    numbers, rows = analysed("cells", searched, tmp_path / "cells")
    keys = {**SEARCH, "stages": "select", "init_from": searched, "select.method": "magnitude"}
    assert run(tmp_path / "magnitude", keys) == 0
    for selection, workdir in {"perturbation": searched, "magnitude": tmp_path / "magnitude"}.items():
        genotype = Genotype.from_json((workdir / "genotype.json").read_text())
        assert numbers["genotypes"][selection] == (workdir / "genotype.txt").read_text().strip()
        drawn = [r for r in rows if r["selection"] == selection]
        assert [r["operation"] for r in drawn] == [o for kind in genotype.cells for o in genotype.operations(kind)]
    capsys.readouterr()
    numbers, rows = analysed("tuning", searched, tmp_path / "tuning")
    operations = len(tiny.SPACE.cells["normal"].edges) + len(tiny.SPACE.cells["reduce"].edges)
    tuned_lines = [
        m for m in lines(searched, "metrics.jsonl") if m["stage"] == "select" and m["decisions"] <= operations
    ]
    found = [r["valid_accuracy"] for r in rows if r["selection"] == "perturbation"][1:]
    assert found == [m["valid_accuracy"] for m in tuned_lines if "valid_accuracy" in m] and found
    assert {r["selection"] for r in rows} == {"perturbation", "magnitude"}
    assert lines(tmp_path / "tuning" / "magnitude_tuned", "decisions.jsonl")


def without(workdir, *names):
    """Removes values from the lines of the search."""
    stripped = [
        {k: v for k, v in m.items() if k not in names} if m["stage"] == "search" else m
        for m in lines(workdir, "metrics.jsonl")
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in stripped))


@pytest.mark.xdist_group("analysis-unvalidated")
def test_a_start_that_the_search_did_not_validate_is_measured(tmp_path):
    """For example, a selection from an epoch without validation, or from a PyTorch checkpoint."""
    keys = {**SEARCH, "space": "cell", "search.epochs": 3, "eval.every": 3}
    assert run(tmp_path / "search", {**keys, "stages": "search"}) == 0
    asked = {"stages": "select", "init_from": tmp_path / "search", "init_epoch": 1, "select.method": "magnitude"}
    assert run(tmp_path / "run", {**keys, **asked}) == 0
    assert not any("valid_accuracy" in m for m in lines(tmp_path / "run", "metrics.jsonl") if m["stage"] == "search")
    numbers, rows = analysed("tuning", tmp_path / "run", tmp_path / "out")
    assert run(tmp_path / "again", {**keys, "stages": "search", "search.epochs": 1, "search.schedule_epochs": 3,
                                    "eval.every": 1, "checkpoint.snapshots": "()"}) == 0  # fmt: skip
    (validated,) = lines(tmp_path / "again", "metrics.jsonl")
    assert numbers["at_the_end_of_the_search"] == pytest.approx(validated["valid_accuracy"])
    tuned = [row for row in rows if row["tuning_epoch"]]
    assert len(tuned) == 2 * 6 and all(row["valid_accuracy"] is not None for row in tuned), "after every decision"


@pytest.mark.xdist_group("analysis")
def test_what_the_records_lack_is_said_before_any_work(searched, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("darts_pt_jax.experiments.analysis.subject.Training", None)  # nothing is computed
    for number, (name, lacking) in enumerate(
        [("alpha_gap", "valid_accuracy"), ("alpha_gap", "edge_weights"), ("cells", "edge_weights")]
    ):
        workdir = tmp_path / str(number)
        shutil.copytree(searched, workdir, ignore=shutil.ignore_patterns("checkpoints"))
        without(workdir, lacking)
        assert analysis.main([name, "--run", str(workdir), "--out", str(tmp_path / f"out{number}")]) == 2
        said = capsys.readouterr().err
        assert f"the records of its search have no {lacking}: take" in said and said.count("\n") == 1


@pytest.mark.xdist_group("analysis")
def test_all_selections_are_checked_before_the_first_begins(searched, tmp_path, capsys, monkeypatch):
    """If "none" may not be chosen, perturbation can still select, but magnitude cannot."""
    workdir = tmp_path / "run"
    shutil.copytree(searched, workdir)
    reconfigured(workdir, {"select.none_is_candidate": False, "space": "s5"})
    space = dataclasses.replace(tiny.SPACE, name="s5", magnitude_ignores=())
    monkeypatch.setitem(SPACES, "s5", space)
    monkeypatch.setattr("darts_pt_jax.experiments.analysis.subject.execute.execute", None)
    assert analysis.main(["tuning", "--run", str(workdir), "--out", str(tmp_path / "out")]) == 2
    assert "select.none_is_candidate=False is for perturbation" in capsys.readouterr().err


@pytest.mark.xdist_group("analysis-bench")
def test_accuracies_come_from_the_table(benched, tmp_path, capsys):
    workdir, table, accuracies = benched
    _, rows = analysed("trajectory", workdir, tmp_path / "trajectory", "--table", table)
    assert [(r["selection"], r["epoch"]) for r in rows] == [
        ("magnitude", 1), ("magnitude", 2), ("perturbation", 1), ("perturbation", 2),
    ]  # fmt: skip
    assert all(row["c10_test"] == accuracies[row["genotype"]] for row in rows)
    for epoch in (1, 2):
        place = tmp_path / "trajectory" / f"perturbation-epoch{epoch}"
        assert rows[1 + epoch]["genotype"] == (place / "genotype.txt").read_text().strip()
    _, rows = analysed("interval", workdir, tmp_path / "interval", "--table", table, "--intervals", "0,1")
    assert [row["interval"] for row in rows] == [0, 1]
    tuned = [m for m in lines(tmp_path / "interval" / "interval1", "metrics.jsonl") if m["stage"] == "select"]
    assert len(tuned) == 6 and rows[1]["c10_test"] == accuracies[rows[1]["genotype"]]


@pytest.mark.xdist_group("analysis-bench")
def test_a_trajectory_shows_finished_selections(benched, tmp_path, capsys, monkeypatch):
    workdir, table, accuracies = benched
    made = {"stages": "select", "init_from": workdir, "select.method": "random"}
    for name, epoch in {"first": 1, "last": 2}.items():
        assert run(tmp_path / name, {**SEARCH, "space": "nasbench201", **made, "init_epoch": epoch}) == 0
    monkeypatch.setattr("darts_pt_jax.experiments.analysis.subject.execute.execute", None)  # nothing is selected
    asked = "trajectory", workdir, tmp_path / "out", "--table", table, "--selected"
    _, rows = analysed(*asked, tmp_path / "first", tmp_path / "last")
    assert [(row["selection"], row["epoch"]) for row in rows] == [
        ("magnitude", 1), ("magnitude", 2), ("random", 1), ("random", 2),
    ]  # fmt: skip
    assert rows[3]["genotype"] == (tmp_path / "last" / "genotype.txt").read_text().strip()
    numbers, rows = analysed(*asked)
    assert {row["selection"] for row in rows} == {"magnitude"}
    assert numbers["at_the_end_of_the_search"] == {"magnitude": accuracies[rows[-1]["genotype"]]}
    shutil.copytree(tmp_path / "last", tmp_path / "other")
    reconfigured(tmp_path / "other", {"select.seed": 3, "select.images": 32})
    _, rows = analysed(*asked, tmp_path / "last", tmp_path / "other")
    assert [row["selection"] for row in rows[2:]] == ["random, select.images=64", "random, select.images=32"]

    def refused(*selected):
        argv = [*map(str, asked[3:]), *map(str, selected)]
        assert analysis.main(["trajectory", "--run", str(workdir), "--out", str(tmp_path / "no"), *argv]) == 2
        return capsys.readouterr().err

    capsys.readouterr()
    shutil.copytree(tmp_path / "last", tmp_path / "again")
    assert f"again: the same selection as {tmp_path / 'last'}" in refused(tmp_path / "last", tmp_path / "again")
    metrics = lines(tmp_path / "again", "metrics.jsonl")
    metrics[0]["train_loss"] += 1
    (tmp_path / "again" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    assert "again: its supernet is of no --run" in refused(tmp_path / "again")
    (tmp_path / "again" / "genotype.json").unlink()
    assert "again: it has not selected from a supernet" in refused(tmp_path / "again")


@pytest.mark.xdist_group("analysis-bench")
def test_strategies_side_by_side(benched, tmp_path, capsys):
    workdir, table, accuracies = benched
    names = "leave_one_out-acc", "keep_one-acc", "first_order-loss"
    asked = "strategies", workdir, tmp_path / "out", "--table", table, "--images", 32, "--only", ",".join(names)
    numbers, rows = analysed(*asked)
    assert [row["selection"] for row in rows] == list(names)
    assert [row["images"] for row in rows] == [6 * 6 * 32, 6 * 6 * 32, 6 * 32]
    assert all(row["c10_test"] == accuracies[row["genotype"]] for row in rows)
    taken = {name: lines(tmp_path / "out" / name, "decisions.jsonl") for name in names}
    assert len({str([d["edge"] for d in of]) for of in taken.values()}) == 1, "one order of edges"
    for one, other in itertools.product(names, names):
        choices = [{d["edge"]: d["choice"] for d in taken[name]} for name in (one, other)]
        same = sum(choices[0][e] == choices[1][e] for e in range(6))
        assert numbers["agreement"][one][other] == pytest.approx(100 * same / 6)
        assert numbers["choices"][one] == {f"normal {e}": choices[0][e] for e in range(6)}
    assert "| keep_one-acc | 1,152 |" in capsys.readouterr().out
    assert analysis.main(["strategies", "--run", str(workdir), "--out", str(tmp_path / "no"), "--only", "best"]) == 2
    assert "--only names best, expected some of leave_one_out-acc, leave_one_out-loss" in capsys.readouterr().err


@pytest.mark.xdist_group("analysis-bench")
def test_variance_and_shuffle(benched, tmp_path):
    workdir, _, _ = benched
    numbers, rows = analysed("variance", workdir, tmp_path / "variance", "--images", 32)
    assert len(rows) == 6 * 3 == numbers["edges"]
    numbers, rows = analysed("shuffle", workdir, tmp_path / "shuffle", "--draws", 2, "--epochs", 1, "--layers", 2)
    by_network = {name: [r for r in rows if r["network"] == name] for name in ("VGG", "ResNet", "supernet")}
    assert all(len(group) == 3 for group in by_network.values())
    after = [r["test_accuracy"] for r in by_network["supernet"]][1:]
    assert numbers["supernet"]["after"] == pytest.approx(np.mean(after))
    assert numbers["supernet"]["after_sd"] == pytest.approx(np.std(after, ddof=1))
    assert by_network["VGG"][1]["swapped"] == [[0, 1]] * 3


@pytest.mark.xdist_group("analysis-bench")
def test_tables_mark_how_each_cell_was_run(benched, tmp_path, capsys):
    _, table, _ = benched
    assert run(tmp_path / "sweep" / "seed0", {**SEARCH, "space": "nasbench201", "select.method": "magnitude"}) == 0
    out = tmp_path / "tables"
    assert analysis.main(["tables", "--run", str(tmp_path / "sweep"), "--out", str(out), "--table", str(table)]) == 0
    numbers = json.loads((out / "numbers.json").read_text())
    assert not any(row["seeds"] for row in numbers["rows"]), "these runs are on digits, the paper's on CIFAR-10"
    assert numbers["numbers"]["left_out"] == ["seed0: of no table"]
    cell = ("4", "nasbench201", "cifar10", "darts_pt_fixed")
    config = tables.own_config(cell)
    assert tables.cells_of(config) == [cell] and tables.differing(config, cell) == []
    config = config.changed({"search.epochs": 3, "seed": 5})
    assert tables.differing(config, cell) == ["search.epochs"]
    config = config.changed({"curvature.every": 1, "retrain.epochs": 3})
    assert tables.differing(config, cell, looked_up=True) == ["search.epochs"]
    config = config.changed({"curvature.stop": 0.75})
    assert "curvature.stop" in tables.differing(config, cell) and "curvature.every" in tables.differing(config, cell)
    assert (
        tables.differing(tables.own_config(("2", "darts", "cifar10", "darts")), ("4", "darts", "cifar10", "darts"))
        == []
    )
    every = [one for one in tables.PAPER if one[0] != "5"]
    assert all(one in tables.cells_of(tables.own_config(one)) for one in every)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["cells", "--run", "nowhere"], "nowhere: not a run directory: it has no run.json"),
        (["tables", "--run", "nowhere"], "nowhere: neither a run directory nor a sweep's"),
        (["strength", "--run", "RUN", "--edges", "normal:0,0"], "--edges is 'normal:0,0', expected 1 to 18"),
        (["strength", "--run", "RUN", "--edges", "normal:9"], "--edges is 'normal:9', expected 1 to 18, or one of normal, reduce"),
        (["trajectory", "--run", "RUN"], "its space is tiny, which no table looks up"),
        (["shuffle", "--run", "RUN"], "edges of tiny cannot change places"),
        (["variance", "--run", "RUN", "--images", "1"], "--images is 1, expected 2 to 65"),
        (["curvature", "--run", "RUN"], "--images is 256, expected 32 (search.batch_size) to 65, the validation images"),
        (["collapse", "--run", "nowhere"], "nowhere: not a run directory: it has no run.json"),
        (["cells", "--run", "RUN", "--out", "RUN"], "writes into a run, which is only read: name another"),
        (["cells", "--run", "RUN", "RUN"], "--run names two runs of one name, under which their results are kept"),
    ],
)  # fmt: skip
@pytest.mark.xdist_group("analysis")
def test_what_cannot_be_analysed_is_one_line(argv, message, searched, tmp_path, capsys):
    argv = [str(searched) if part == "RUN" else part for part in argv]
    assert analysis.main([*argv[:1], "--out", str(tmp_path / "out"), *argv[1:]]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1


def test_the_tables_mean_deviation_and_protocol(tmp_path, capsys):
    """Run directories as stage retrain writes them, with made-up accuracies."""
    cell = "3", "s2", "cifar10", "darts_pt"

    def made(name, accuracy, **keys):
        config = tables.own_config(cell).changed({key.replace("__", "."): value for key, value in keys.items()})
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "run.json").write_text(record.sealed({"config": flatten(config)}))
        if accuracy is not None:
            (tmp_path / "sweep" / name / "retrained.json").write_text(json.dumps({"test_accuracy": accuracy}))

    def row():
        argv = ["tables", "--run", str(tmp_path / "sweep"), "--out", str(tmp_path / "out")]
        assert analysis.main(argv) == 0
        found = json.loads((tmp_path / "out" / "numbers.json").read_text())
        (one,) = [r for r in found["rows"] if (r["table"], r["space"], r["data"], r["method"]) == cell]
        return one, found["numbers"]["left_out"]

    made("seed0", 96.0, seed=0, search__epochs=3, retrain__epochs=5)
    made("seed1", 94.0, seed=1, search__epochs=3)
    made("seed2", None, seed=2)
    (tmp_path / "sweep" / "other").mkdir()
    (tmp_path / "sweep" / "other" / "run.json").write_text("{}")
    one, left_out = row()
    assert (one["ours"], one["best"], one["runs"], one["seeds"]) == (5.0, 4.0, 2, 2)
    assert one["sd"] == pytest.approx(2**0.5) and one["paper"] == 2.79
    assert one["protocol"] == "reduced: retrain.epochs, search.epochs"
    assert "| 3 | s2 | cifar10 | darts_pt | 2.79 | 5.00 ± 1.41 | 4.00 | 2, 2 | reduced" in capsys.readouterr().out
    assert left_out[0].startswith("other: ") and left_out[1] == "seed2: neither retrained nor looked up"
    cell = "5", "darts", "imagenet2012", "darts"
    for seed in (0, 1):  # the seed of the run is also the seed of retraining
        made(f"retrained{seed}", 74.0 + seed, seed=seed, genotype="DARTS_V2")
        (tmp_path / "sweep" / f"retrained{seed}" / "genotype.json").write_text(published.find("DARTS_V2").to_json())
    one, _ = row()
    assert (one["ours"], one["runs"], one["seeds"]) == (25.5, 2, 2)
    cell = "3", "s2", "cifar10", "darts_pt"
    made("seed3", 97.0, seed=3)
    one, _ = row()
    assert (one["ours"], one["sd"], one["runs"], one["protocol"]) == (3.0, None, 1, "full")

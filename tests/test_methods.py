"""Pairs of method, selection, space and more: each case searches, decides, and resumes bit for bit.

`make soak` tries every pair of values that makes sense; otherwise two thirds of them, in a third of the cases.
"""

import dataclasses
import itertools

import numpy as np
import pytest

from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.engine.screen import Screen
from darts_pt_jax.samplers import SAMPLERS, make_sampler
from darts_pt_jax.selection import sgas
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.selection.strategies import LEAVE_ONE_OUT, STRATEGIES
from darts_pt_jax.selection.ties import TIES
from darts_pt_jax.spaces import SPACES, dag
from darts_pt_jax.unrolled import ALPHA_GRADIENTS
from tests.command import SOAK, TINY, lines, recomputed, run, stopping_at

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_training")]


def smaller(space, nodes):
    """A smaller space: one cell of every kind, fewer nodes, and, of many candidates, every second one (and none)."""
    cells = {}
    for kind, graph in space.cells.items():
        candidates = {e: edge.candidates for e, edge in enumerate(graph.edges)}
        for e, names in candidates.items():
            if len(names) > 3:
                candidates[e] = tuple(o for i, o in enumerate(names) if o == "none" or i % 2 == e % 2)
        cells[kind] = dag(
            graph.inputs, nodes, candidates, graph.outputs[-1:] if graph.inputs == 1 else None, graph.reduction
        )
    return dataclasses.replace(space, cells=cells, layout=lambda _: tuple(cells), stem_multiplier=1)


NODES = {"nasbench201": 3}
SMALL = {f"small_{name}": smaller(SPACES[name], NODES.get(name, 1)) for name in
         ("darts", "darts_none", "s1", "s2", "s3", "s4", "nasbench201")}  # fmt: skip
SPACES.update(SMALL)
FACTORS = {
    "space": tuple(SMALL),
    "select.method": (
        "perturbation",
        "magnitude_tuned",
        "magnitude",
        "shapley",
        "fisher",
        "random",
        "sgas",
        "sgas_perturbation",
    ),
    "select.strategy": tuple(STRATEGIES),
    "search.alpha": ("learned", "fixed"),
    "search.unrolled": tuple(ALPHA_GRADIENTS),
    "search.sampler": tuple(name for name in SAMPLERS if name != "fixed"),
    "more": (
        "",
        "select.order=certain",
        "select.order=important",
        "select.race=0.9",
        *(f"select.ties={name}" for name in TIES if name != "first"),
    ),
}
"""Values by key; "more" is a key and its value, of those that only scores obey."""
APART = {"space", "search.sampler"}
"""Factors whose pairs no run tries: tests/test_samplers.py tries every sampler on every space."""


def makes_sense(case):
    fixed, method = case["search.alpha"] != "learned", case["select.method"]
    more, strategy = case["more"], STRATEGIES[case["select.strategy"]]
    if (strategy is not LEAVE_ONE_OUT or more) and not METHODS[method].scores:
        return False
    if "order" in more and (METHODS[method].greedy or strategy.masks is None):
        return False
    if ("race" in more and strategy is not LEAVE_ONE_OUT) or ("ties" in more and strategy.masks is None):
        return False
    if "sgas" in method and sgas.unfit(SMALL[case["space"]]):
        return False
    if "sgas" in method and not make_sampler(case["search.sampler"], vars(Config().search)).sums_to_one:
        return False
    return not (fixed and ("sgas" in method or "magnitude" in method or case["search.unrolled"] != "off"))


def pairs(case):
    """Pairs of values of two different factors, but those of `APART`."""
    return {pair for pair in itertools.combinations(case.items(), 2) if {name for name, _ in pair} != APART}


def covering(cases):
    """Cases, chosen greedily, that contain every possible pair of values."""
    bits = {}  # sets of pairs as integers: there are thousands of cases
    covered = [sum(1 << bits.setdefault(pair, len(bits)) for pair in pairs(case)) for case in cases]
    missing, chosen = (1 << len(bits)) - 1, []
    while missing:
        best = max(range(len(cases)), key=lambda i: (covered[i] & missing).bit_count())
        chosen.append(cases[best])
        missing &= ~covered[best]
    return chosen


EVERY = [dict(zip(FACTORS, values, strict=True)) for values in itertools.product(*FACTORS.values())]
CASES = covering([case for case in EVERY if makes_sense(case)])[: None if SOAK else 24]


def settings(case):
    keys = {**TINY, "search.epochs": 1, "select.interval": 1, "search.gradients": "separate", "search.batch_size": 32}
    keys |= {
        "stages": "search,select",
        "tensorboard": False,
        "data.size": 4,
        "supernet.channels": 2,
        "select.images": 32,
        "select.permutations": 2,
        "eval.every": 2,
        **case,
    }
    if more := keys.pop("more", ""):
        keys |= [more.split("=")]
    if STRATEGIES[case.get("select.strategy", LEAVE_ONE_OUT.name)].masks is None:
        keys["select.criterion"] = "loss"
    if "sgas" in case["select.method"]:
        keys |= {"search.schedule_epochs": 10, "sgas.batch_increase": 0, "sgas.criterion": 2}
    return keys


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(filter(None, case.values())))
def test_a_run_decides_and_resumes(case, tmp_path, monkeypatch):
    keys, whole, parts = settings(case), tmp_path / "whole", tmp_path / "parts"
    assert run(whole, keys) == 0
    decisions = lines(whole, "decisions.jsonl")
    graphs = SMALL[case["space"]].cells
    edges = {(kind, e) for kind, graph in graphs.items() for e in range(len(graph.edges))}
    decided = {(d["kind"], d["edge"]) for d in decisions if d["type"] == "operation"}
    pruned = {(d["kind"], e) for d in decisions for e in d.get("pruned", ())}
    assert decided | pruned == edges and not decided & pruned
    if case["select.method"].endswith("perturbation"):
        by_rule = [d for d in decisions if any("ties" in one for one in (d, *d.get("passes", ())))]
        assert all(recomputed(d) == d["choice"] for d in decisions if d not in by_rule)
        strategies = {d.get("strategy", LEAVE_ONE_OUT.name) for d in decisions if d["type"] == "operation"}
        assert strategies == {case["select.strategy"]}
    if "sgas" in case["select.method"]:
        assert "none" not in {d["choice"] for d in decisions}
    units = len(lines(whole, "timings.jsonl"))
    with monkeypatch.context() as patch:
        patch.setattr(Screen, "end", stopping_at(max(units // 2, 1), Screen.end))
        assert run(parts, keys) == 143
    assert run(parts, keys) == 0
    for name in ("metrics.jsonl", "decisions.jsonl", "genotype.json", "genotype.txt"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    one, two = (Checkpoints(place / "checkpoints", read_only=True) for place in (whole, parts))
    one, two = one.arrays(one.latest()), two.arrays(two.latest())
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_sgas_continues_the_search_in_larger_batches(tmp_path):
    case = {"space": "small_s3", "select.method": "sgas", "search.alpha": "learned"}
    keys = settings(case) | {"sgas.batch_increase": 16, "search.learning_rate_min": 0.0, "select.interval": 2}
    assert run(tmp_path / "run", keys) == 0
    tuning = [t for t in lines(tmp_path / "run", "timings.jsonl") if t["type"] == "tuning epoch"]
    assert [t["images"] for t in tuning[::2]] == [2 * 48, 2 * 64], "one step each, of two batches"
    metrics = lines(tmp_path / "run", "metrics.jsonl")
    cosine = [0.0125 * (1 + np.cos(np.pi * epoch / 10)) for epoch in range(5)]
    assert [m["learning_rate"] for m in metrics] == pytest.approx(cosine, rel=1e-5)
    decisions = lines(tmp_path / "run", "decisions.jsonl")
    assert [d["decision"] for d in decisions] == [1, 2, 3, 4] and [d["kind"] for d in decisions] == [
        "normal",
        "reduce",
    ] * 2
    for d, m in zip(decisions[::2], (metrics[0], metrics[2]), strict=True):
        q = np.array([row[1:] for row in m["edge_weights"]["normal"]])
        np.testing.assert_allclose(d["importance"], q.sum(1), rtol=1e-5)
        open_score = [
            s for e, s in enumerate(d["score"]) if e not in [x["edge"] for x in decisions[: d["decision"] - 1 : 2]]
        ]
        assert d["score"][d["edge"]] == max(open_score)
        assert d["choice"] == ("skip_connect", "sep_conv_3x3")[q[d["edge"]].argmax()]

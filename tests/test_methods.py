"""Every method with every selection on every space, by pairs: a search, decisions, and a run that is resumed bit for bit."""

import dataclasses
import os
import signal

import numpy as np
import pytest
from allpairspy import AllPairs

from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.methods.sdarts import PERTURBATIONS
from darts_pt_jax.methods.unrolled import ALPHA_GRADIENTS
from darts_pt_jax.selection import sgas
from darts_pt_jax.spaces import SPACES, dag
from experiments.screen import Screen
from tests import tiny
from tests.command import TINY, lines, recomputed, run, same_results


def smaller(space):
    """A space with two nodes a cell and one cell of every kind."""
    cells = {}
    for kind, graph in space.cells.items():
        candidates = {e: edge.candidates for e, edge in enumerate(graph.edges)}
        cells[kind] = dag(2, 2, candidates, reduction=graph.reduction)
    return dataclasses.replace(space, cells=cells, layout=lambda _: tuple(cells), stem_multiplier=1)


SMALL = {
    f"small_{name}": smaller(space) for name, space in SPACES.items() if space.notation == "darts" and name != "tiny"
}
SMALL["small_nasbench201"] = tiny.BENCH
SPACES.update(SMALL)
FACTORS = {
    "space": tuple(SMALL),
    "select.method": ("perturbation", "magnitude_tuned", "magnitude", "random", "sgas", "sgas_perturbation"),
    "search.alpha": ("learned", "fixed", "zero"),
    "search.unrolled": tuple(ALPHA_GRADIENTS),
    "search.perturb": tuple(PERTURBATIONS),
}


def makes_sense(values):
    keys = dict(zip(FACTORS, values, strict=False))
    fixed = keys.get("search.alpha", "learned") != "learned"
    method = keys.get("select.method", "random")
    if "sgas" in method and sgas.unfit(SMALL[keys["space"]]):
        return False
    if fixed and ("sgas" in method or "magnitude" in method):
        return False
    return not (fixed and keys.get("search.unrolled", "off") != "off")


CASES = [
    dict(zip(FACTORS, values, strict=True)) for values in AllPairs(list(FACTORS.values()), filter_func=makes_sense)
]


def settings(case):
    keys = {**TINY, "search.epochs": 2, "select.interval": 1, "search.gradients": "separate", "search.batch_size": 32}
    keys |= {"data.size": 4, "supernet.channels": 2, "select.images": 32, "eval.every": 2, **case}
    if case["search.alpha"] == "zero":
        keys |= {"search.alpha": "fixed", "search.alpha_init": "zero"}
    if "sgas" in case["select.method"]:
        keys |= {"search.schedule_epochs": 10, "sgas.batch_increase": 1, "sgas.criterion": 2}
    return keys


def stopping_after(units):
    """Stands for `Screen.end`: asks to stop, by a signal, when so many units are done."""
    done = iter(range(1, 1000))

    def end(screen, watch, whole=Screen.end):
        whole(screen, watch)
        if next(done) == units:
            os.kill(os.getpid(), signal.SIGTERM)

    return end


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
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
        assert all(recomputed(d) == d["choice"] for d in decisions)
    if "sgas" in case["select.method"]:
        assert "none" not in {d["choice"] for d in decisions}
    units = len(lines(whole, "timings.jsonl"))
    for stop in (1, units // 2):
        with monkeypatch.context() as patch:
            patch.setattr(Screen, "end", stopping_after(stop))
            assert run(parts, keys) == 143
    assert run(parts, keys) == 0
    same_results(whole, parts)
    one, two = (Checkpoints(place / "checkpoints", read_only=True) for place in (whole, parts))
    one, two = one.arrays(one.latest()), two.arrays(two.latest())
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_every_pair_that_makes_sense_is_there():
    for one in FACTORS:
        for two in FACTORS:
            pairs = {(case[one], case[two]) for case in CASES}
            for a in FACTORS[one]:
                for b in FACTORS[two]:
                    possible = makes_sense_together({one: a, two: b}) and (one != two or a == b)
                    assert not possible or (a, b) in pairs, (a, b)


def makes_sense_together(keys):
    """Whether two values go together, whatever the others."""
    space = keys.get("space", "small_s3")
    return makes_sense(
        [{"space": space, **keys}.get(f, FACTORS[f][0] if f != "select.method" else "random") for f in FACTORS]
    )

"""Limits on the discrete network: its costs, the cheapest completion, and that every way to select keeps them."""

import dataclasses
import functools
import itertools
import re

import numpy as np
import pytest

from darts_pt_jax import architecture, network
from darts_pt_jax.experiments.config import rules, schema
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.training.budgets import budget_of
from darts_pt_jax.genotype import example, genotype_of
from darts_pt_jax.network import Network
from darts_pt_jax.selection import certainty, direct, perturbation, schedule, sgas
from darts_pt_jax.selection.budgets import Budget, nothing_decided
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.methods import METHODS, Method
from darts_pt_jax.selection.strategies import STRATEGIES, TOPOLOGIES
from darts_pt_jax.spaces import SPACES, UNDECIDED, SearchSpace, dag
from tests.command import TINY, recomputed, run

SMALL = SearchSpace(
    "budgets", {"normal": dag(2, 2, ("none", "a", "b")), "reduce": dag(2, 1, ("a", "b"), reduction=True)}, tuple
)
"""Five edges, of which a node drops one, and two edges: 3 * 3^5 * 4 networks."""


def made_up(seed, limits, barred=(), prunes=False, space=SMALL):
    """A budget with costs at random."""
    rng = np.random.RandomState(seed)
    costs = {kind: rng.randint(0, 20, (*g.candidate_mask.shape, len(limits))) for kind, g in space.cells.items()}
    return Budget(space, limits, (3, 5)[: len(limits)], costs, barred, prunes)


def every_network(space, operations, kept, barred, prunes):
    """All complete decisions that decisions leave possible, by brute force: choices by (kind, edge), None if dropped."""
    found = []
    for kind, graph in space.cells.items():
        options = []
        for e, edge in enumerate(graph.edges):
            allowed = [o for o, name in enumerate(edge.candidates) if name not in barred]
            options.append([operations[kind][e]] if operations[kind][e] != UNDECIDED else allowed)
        of_kind = set()
        for chosen in itertools.product(*options):
            for stays in itertools.product((False, True), repeat=len(graph.edges)):
                counts = [sum(stays[e] for e in graph.incoming(state)) for state in graph.node_states]
                decided = operations[kind] != UNDECIDED
                if any(count != 2 for count in counts) or any(stays & ~kept[kind]):
                    continue
                if prunes and any(kept[kind] & decided & ~np.array(stays)):
                    continue
                of_kind.add(tuple((kind, e, o) for e, (o, stay) in enumerate(zip(chosen, stays, strict=True)) if stay))
        found.append(of_kind)
    return [sum(parts, ()) for parts in itertools.product(*found)]


@pytest.mark.parametrize("prunes", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_cheapest_completion_is_that_of_all_networks(seed, prunes):
    budget, rng = made_up(seed, (60, 60), ("none",) * (seed % 2), prunes), np.random.RandomState(seed)
    operations, kept = nothing_decided(SMALL)
    for kind, edge in (("normal", 3), ("reduce", 0), ("normal", 0), ("normal", 4)):
        networks = every_network(SMALL, operations, kept, budget.barred, prunes)
        sums = {tuple(np.sum([budget.costs[k][e, o] for k, e, o in one], 0) + budget.fixed) for one in networks}
        undercut = {p for p in sums for q in sums if q != p and q[0] <= p[0] and q[1] <= p[1]}
        assert set(budget.completions(operations, kept)) == sums - undercut and len(networks) > 3
        assert budget.fits(operations, kept) == any(max(p) <= 60 for p in sums)
        operations[kind][edge] = rng.randint(1, 3) if kind == "normal" else 0
        kept["normal"][2] = prunes or kind == "normal"


@pytest.mark.parametrize(
    ("name", "cells", "size"), [("s3", 3, (8, 8, 3)), ("darts", 4, (11, 9, 1)), ("nasbench201", 1, (8, 8, 3))]
)
def test_a_network_costs_what_its_operations_cost_and_a_constant(name, cells, size):
    space = SPACES[name]
    net = Network(example(space), network.form_of(example(space)), cells, 4, 10)
    costs = network.costs(net, space, size)
    choice = direct.random(space, {}, np.random.RandomState(0))
    assert cost_of(costs, choice) == network.size(net.clone(genotype=genotype_of(space, *choice)), size)


def cost_of(costs, choice):
    total = np.array(costs.fixed)
    for kind, rows in costs.operations.items():
        for e in np.flatnonzero(choice.kept[kind]):
            total += rows[e, choice.operations[kind][e]]
    return tuple(total)


TIGHT = 0.2
"""A limit between the smallest (0) and the largest cost (1)."""


def limited(space, share, seed=0, barred=()):
    """A budget for one cost, made up, between the smallest and about the largest; and its `network.Costs`."""
    free = made_up(seed, (0,), barred, space=space)
    least, *_ = free.completions(*nothing_decided(space))
    most = Budget(space, (0,), (-3,), {kind: -rows for kind, rows in free.costs.items()}, barred)
    largest, *_ = most.completions(*nothing_decided(space))
    limit = int(least[0] + share * (-largest[0] - least[0]))
    return dataclasses.replace(free, limits=(limit,)), network.Costs(np.array(free.fixed), free.costs)


@pytest.mark.parametrize("space", ["s2", "nasbench201", "tiny"])
@pytest.mark.parametrize("selector", [direct.magnitude, direct.random])
def test_choices_at_once_stay_within_a_limit(selector, space):
    space, rng = SPACES[space], np.random.RandomState(0)
    weights = {kind: rng.rand(*graph.candidate_mask.shape) for kind, graph in space.cells.items()}
    freely = selector(space, weights, np.random.RandomState(1))
    for share in (0, TIGHT, 1):
        budget, costs = limited(space, share, barred=space.magnitude_ignores)
        choice = selector(space, weights, np.random.RandomState(1), budget)
        (cost,) = cost_of(costs, choice)
        assert cost <= budget.limits[0] and (share or cost == budget.limits[0])
        records = list(direct.records(space, weights, choice, budget=budget, freely=freely))
        if share == 1:
            assert records == list(direct.records(space, weights, freely)) and cost_of(costs, freely) == (cost,)
            continue
        changed = [r for r in records if "without_limit" in r]
        assert changed and all(r["without_limit"] != r["choice"] for r in changed)
        for record in records:
            ruled_out = record.get("ruled_out", [])
            if record["type"] == "topology":
                assert record["choice"] not in ruled_out
                used = weights[record["kind"]][record["edges"], choice.operations[record["kind"]][record["edges"]]]
                assert selector is direct.random or record["strength"] == used.tolist(), "of the operations chosen"
            else:
                assert record["choice_index"] in record["eligible"]
                assert not set(record["eligible"]) & set(ruled_out)
        for record in changed:
            free = record["without_limit"]
            assert (record["candidates"].index(free) if record["type"] == "operation" else free) in record["ruled_out"]


def made_up_scores(rng, masks):
    count = len(masks)
    correct = rng.randint(20, 60, count + 1).tolist()
    return {
        "images": 64,
        "baseline": {"correct": 64, "loss": 0.5},
        "correct": correct[1:],
        "loss": rng.rand(count).tolist(),
    }


@pytest.mark.parametrize(("strategy", "topology"), [("leave_one_out", "leave_one_out"), ("keep_one", "single_ranking")])
def test_choices_one_by_one_stay_within_a_limit(strategy, topology):
    space, rng = SPACES["tiny"], np.random.RandomState(0)
    for share in (0, TIGHT, 1):
        budget, costs = limited(space, share)
        taken, records = architecture.undecided(space), []
        for (target,) in schedule.decision_points(space, "random", "single", rng):
            out = perturbation.ruled_out(budget, taken, target)
            options = {"strategy": STRATEGIES[strategy], "decisions": taken, "ruled_out": out}
            scores, rules = functools.partial(made_up_scores, rng), (CRITERIA["acc"], TOPOLOGIES[topology])
            records.append(perturbation.decide(scores, space, target, *rules, **options))
            taken = taken.apply(records[-1])
            assert recomputed(records[-1]) == records[-1]["choice"] and budget.fits(*taken.on_host())
        (cost,) = cost_of(costs, direct.Choice(*taken.on_host()))
        assert cost <= budget.limits[0] and (share or cost == budget.limits[0])
        scorings = [one for record in records for one in record.get("passes", [record])]
        changed = [s for s in scorings if "ruled_out" in s and s["without_limit"] != s.get("removed", s.get("choice"))]
        assert bool(changed) == (share < 1)
        for record in records:
            for contest in certainty.contests(record):
                assert not {contest.winner, contest.runner_up} & set(contest.scores.get("ruled_out", ()))


def test_sgas_passes_over_the_edges_that_a_limit_closes():
    space, rng, passed = SPACES["s3"], np.random.RandomState(0), 0
    budget, costs = limited(space, 0, barred=("none",))
    budget, taken = dataclasses.replace(budget, prunes=True), architecture.undecided(space)
    for target in (target for point in sgas.decision_points(space) for target in point):
        kind, score = target.kind, rng.rand(14)
        closed = budget.closed(*taken.on_host(), kind)
        passed += closed.any()
        edge = sgas.next_edge(taken, kind, np.where(closed, -np.inf, score))
        out = budget.ruled_out(*taken.on_host(), kind, edge)
        record = direct.operation_record(space, kind, edge, rng.rand(14, 3), barred=("none",), ruled_out=out)
        taken = taken.apply({**record, "pruned": sgas.pruned(space, taken.apply(record), kind, edge)})
    assert cost_of(costs, direct.Choice(*taken.on_host())) == budget.limits and passed


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"select.race": 0.95}, "set select.race=0"),
        ({"select.method": "at_once"}, "'at_once' has no argument budget"),
    ],
)
def test_what_cannot_keep_a_limit_is_refused(keys, message, tables):
    METHODS["at_once"] = Method("at_once", "as a plugin", selector=lambda space, weights, rng: None)
    with pytest.raises(ConfigError, match=f"select.max_parameters .*{message}"):
        rules.check(schema.from_flat({"select.max_parameters": 10**6, "data.source": "digits", **keys}))


def test_a_limit_that_no_network_keeps_is_refused_before_any_work(tmp_path, capsys):
    def refusal(**limits):
        keys = {f"select.max_{name}": limit for name, limit in limits.items()}
        assert run(tmp_path / "run", TINY, **keys) == 2 and not (tmp_path / "run").exists()
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    line = refusal(parameters=10)
    assert (
        "select.max_parameters is 10, but the smallest network of tiny with retrain.cells=3 and retrain.channels=4"
        in line
    )
    least = int(re.search(r"has (\d+) parameters: set it to at least that", line)[1])
    assert f"within select.max_parameters={least}, has" in refusal(parameters=least, multiply_adds=10)
    config = schema.from_flat({**TINY, "select.max_parameters": least})
    assert budget_of(config, (8, 8, 1), 10).limits == (least,)

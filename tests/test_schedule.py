import numpy as np
import pytest

from darts_pt_jax.selection.schedule import decision_points, parse_order, scorings
from darts_pt_jax.spaces import SPACES

REFERENCE = {  # by seed, the orders of the reference code: edges (normal | reduce), then intermediate nodes
    0: ("12 0 13 8 4 3 11 1 9 5 6 7 2 10 | 5 3 4 12 8 7 11 0 6 1 9 10 13 2", "0 2 1 | 0 2 1", "4 0 5 2 3 1"),
    1: ("5 13 10 6 0 11 2 8 12 9 1 3 4 7 | 11 8 13 0 2 9 4 12 5 7 6 3 1 10", "0 2 1 | 1 2 0", "5 3 0 1 4 2"),
    2: ("8 9 13 10 2 6 5 11 7 4 12 3 0 1 | 13 6 2 9 1 7 8 5 4 11 10 3 0 12", "1 0 2 | 0 1 2", "0 1 4 5 3 2"),
    3: ("10 9 8 0 4 7 12 6 13 3 5 11 2 1 | 8 3 10 6 13 11 0 7 1 4 9 12 2 5", "1 2 0 | 2 0 1", "2 0 3 1 4 5"),
}


def points(space, order="random", pairing="both", seed=0):
    return decision_points(SPACES[space], order, pairing, np.random.RandomState(seed))


def numbers(decided, type_, kind, first=0):
    flat = [t for point in decided for t in point]
    return " ".join(str(t.number - first) for t in flat if t.type == type_ and t.kind == kind)


@pytest.mark.parametrize("seed", REFERENCE)
def test_the_reference_order_is_the_published_one(seed):
    edges, nodes, bench = REFERENCE[seed]
    decided = points("s2", "reference", seed=seed)
    assert " | ".join(numbers(decided, "operation", kind) for kind in ("normal", "reduce")) == edges
    assert " | ".join(numbers(decided, "topology", kind, 3) for kind in ("normal", "reduce")) == nodes
    assert numbers(points("nasbench201", "reference", seed=seed), "operation", "normal") == bench


@pytest.mark.parametrize("space", ["darts", "nasbench201", "tiny"])
@pytest.mark.parametrize("order", ["random", "fixed", "reference"])
@pytest.mark.parametrize("pairing", ["both", "single"])
def test_every_edge_and_choosable_node_is_decided_once_operations_first(space, order, pairing):
    decided = points(space, order, pairing)
    flat = [(t.type, t.kind, t.number) for point in decided for t in point]
    cells = SPACES[space].cells
    edges = {("operation", k, e) for k, g in cells.items() for e in range(len(g.edges))}
    nodes = {("topology", k, n) for k in cells for n in SPACES[space].choosable_nodes(k)}
    assert set(flat[: len(edges)]) == edges and set(flat[len(edges) :]) == nodes and len(flat) == len(edges | nodes)
    size = len(cells) if pairing == "both" else 1
    assert {len(point) for point in decided} == {size}
    if pairing == "both":
        assert all([t.kind for t in point] == list(cells) for point in decided)


def test_darts_has_28_operation_and_6_node_decisions_in_17_pairs():
    decided = points("darts")
    assert len(decided) == 17 and sum(map(len, decided)) == 34


def test_random_orders_differ_by_seed_and_repeat():
    assert points("darts", seed=0) == points("darts", seed=0) != points("darts", seed=1)


def test_an_explicit_order_is_followed():
    assert numbers(points("nasbench201", "normal:5,3,0,1,4,2"), "operation", "normal") == "5 3 0 1 4 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sideways", "got 'sideways', expected random or fixed or reference"),
        ("normal:0,1", "got 'normal:0,1', expected every edge of 0 to 5 once"),
        ("normal:0,1,2,3,4,5;other:0", "got 'other:0', expected .* of normal"),
        ("normal:0,1,2,3,4,4", "got 'normal:0,1,2,3,4,4', expected every edge of 0 to 5 once"),
        ("normal:a,b", "got 'normal:a,b', expected edge numbers after the colon"),
        ("normal:", "got 'normal:', expected edge numbers after the colon"),
    ],
)
def test_a_wrong_explicit_order_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_order(text, SPACES["nasbench201"])


def test_an_explicit_order_needs_every_kind():
    with pytest.raises(ValueError, match="nothing of reduce"):
        parse_order("normal:" + ",".join(map(str, range(14))), SPACES["darts"])


@pytest.mark.parametrize(
    ("order", "small", "large"), [("random", 6, 28 + 12), ("important", 12, 56 + 12), ("certain", 21, 210 + 12)]
)
def test_a_selection_scores_edges_and_the_inputs_to_drop(order, small, large):
    assert scorings(SPACES["nasbench201"], order) == small
    assert scorings(SPACES["darts"], order) == large, "of 14 edges of each kind, and 1 + 2 + 3 inputs"

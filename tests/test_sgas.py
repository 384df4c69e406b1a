"""SGAS: the next edge, against values computed by hand; pruned edges; spaces that do not fit."""

import numpy as np
import pytest

from darts_pt_jax import architecture
from darts_pt_jax.selection import sgas
from darts_pt_jax.spaces import SPACES, SearchSpace, dag

GRAPH = dag(2, 2, ("none", "skip_connect", "sep_conv_3x3"))
SPACE = SearchSpace("of two nodes", {"normal": GRAPH}, lambda cells: ("normal",) * cells)
# none, skip, conv; edge importance 0.8, 0.6, 0.5, 0.9, 0.7
MIXTURE = np.array(
    [[0.2, 0.4, 0.4], [0.4, 0.3, 0.3], [0.5, 0.125, 0.375], [0.1, 0.9 * 0.8, 0.9 * 0.2], [0.3, 0.7, 0.0]]
)
# of the conditional distributions (1/2, 1/2), (1/2, 1/2), (1/4, 3/4), (0.8, 0.2), (1, 0): 1 - H / log 2
CERTAINTY = [0, 0, 1 - 0.8112781245, 1 - 0.7219280949, 1]


def test_importance_and_certainty_equal_values_computed_by_hand():
    values = sgas.criterion(GRAPH, MIXTURE, [], 1)
    np.testing.assert_allclose(values["importance"], [0.8, 0.6, 0.5, 0.9, 0.7])
    np.testing.assert_allclose(values["certainty"], CERTAINTY, atol=1e-9)
    scaled = (0.3 / 0.4, 0.1 / 0.4, 0, 1, 0.2 / 0.4)  # importance, scaled from [0.5, 0.9]
    np.testing.assert_allclose(values["score"], np.multiply(scaled, CERTAINTY), atol=1e-9)
    assert values["stability"].tolist() == [0] * 5, "there is no history yet"


def test_stability_is_the_mean_histogram_intersection_of_the_last_four():
    other = MIXTURE.copy()
    other[3] = [0.5, 0.25, 0.25]  # (1/2, 1/2): shares 0.5 + 0.2 with (0.8, 0.2)
    other[4] = [0.2, 0.4, 0.4]  # shares 0.5 with (1, 0)
    far = np.tile([0.5, 0.0, 0.5], (5, 1))  # would change the mean, but is five epochs ago
    values = sgas.criterion(GRAPH, MIXTURE, [far, MIXTURE, other, other, MIXTURE], 2)
    np.testing.assert_allclose(values["stability"], [1, 1, 1, 0.85, 0.75])
    scaled = [1, 1, 1, 0.4, 0]
    first = sgas.criterion(GRAPH, MIXTURE, [], 1)["score"]
    np.testing.assert_allclose(values["score"], np.multiply(scaled, first), atol=1e-9)
    without = sgas.criterion(GRAPH, MIXTURE, [other], 1)
    np.testing.assert_allclose(without["score"], first), "criterion 1 does not look at it"


def test_equal_values_have_no_influence():
    values = sgas.criterion(GRAPH, np.tile([0.4, 0.3, 0.3], (5, 1)), [], 1)
    assert values["score"].tolist() == [0] * 5


def test_the_next_edge_is_the_best_open_one_and_a_full_node_loses_its_other_edges():
    decisions = architecture.undecided(SPACE)
    score = np.array([0.1, 0.5, 0.5, 0.2, 0.4])
    order, pruned = [], []
    for _ in range(4):
        edge = sgas.next_edge(decisions, "normal", score)
        decisions = decisions.choose("normal", edge, 1)
        order.append(edge)
        pruned.append(sgas.pruned(SPACE, decisions, "normal", edge))
        decisions = decisions.remove("normal", pruned[-1])
    assert order == [1, 2, 4, 0] and pruned == [[], [], [3], []]
    assert not np.asarray(decisions.open("normal")).any()
    assert decisions.genotype(SPACE).cells["normal"] == (
        (("skip_connect", 0), ("skip_connect", 1)), (("skip_connect", 0), ("skip_connect", 2)),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "kinds", "points"), [("darts_none", 2, 8), ("s3", 2, 8), ("nasbench201", 1, 6)])
def test_there_is_a_decision_for_every_edge_that_is_kept(name, kinds, points):
    space = SPACES[name]
    assert sgas.unfit(space) is None
    assert [len(targets) for targets in sgas.decision_points(space)] == [kinds] * points


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (SPACES["darts"], "normal edge 0 has no candidate 'none'"),
        (SPACES["s1"], "normal edge 0 has no candidate 'none'"),
        (SearchSpace("one", {"normal": dag(2, 2, ("none", "skip_connect"))}, None), "fewer than two candidates"),
    ],
)
def test_it_needs_none_and_two_others_on_every_edge(space, reason):
    assert reason in sgas.unfit(space)

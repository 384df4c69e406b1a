import numpy as np
import pytest

from darts_pt_jax.genotype import genotype_of
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES


def test_magnitude_keeps_the_strongest_edges_and_never_chooses_none():
    space = SPACES["s3"]
    row = np.array([0.6, 0.3, 0.1])
    weights = {kind: np.tile(row, (14, 1)) for kind in space.cells}
    weights["normal"][[3, 4]] = [0.1, 0.2, 0.7], [0.0, 0.5, 0.5]
    weights["normal"][13] = [0.0, 0.9, 0.1]
    cells = genotype_of(space, *direct.magnitude(space, weights, None)).cells["normal"]
    skip, conv = "skip_connect", "sep_conv_3x3"
    assert cells == (((skip, 0), (skip, 1)), ((conv, 1), (skip, 2)), ((skip, 0), (skip, 1)), ((skip, 0), (skip, 4)))


def test_magnitude_may_choose_none_in_nasbench201():
    space = SPACES["nasbench201"]
    weights = {"normal": np.eye(5)[[0, 1, 2, 3, 4, 0]]}
    text = genotype_of(space, *direct.magnitude(space, weights, None)).text("nasbench201")
    assert text == "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"


@pytest.mark.parametrize("space", ["darts", "s3", "nasbench201", "tiny"])
def test_random_architectures_are_complete_and_repeat_by_seed(space):
    table = SPACES[space]
    make = lambda seed: genotype_of(table, *direct.random(table, {}, np.random.RandomState(seed)))  # noqa: E731
    assert make(0) == make(0) and len({make(s).to_json() for s in range(5)}) > 1
    for kind, graph in table.cells.items():
        chosen = make(0).operations(kind)
        if table.inputs_per_node:
            assert [len(node) for node in make(0).cells[kind]] == [2] * graph.nodes
            assert "none" not in chosen
        else:
            assert len(chosen) == len(graph.edges)


def test_magnitude_ignores_places_without_a_candidate():
    space = SPACES["tiny"]
    weights = {kind: np.zeros(graph.candidate_mask.shape) for kind, graph in space.cells.items()}
    choice = direct.magnitude(space, weights, None)
    assert choice.operations["normal"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]

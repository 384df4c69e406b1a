import jax
import jax.numpy as jnp
import pytest

from darts_pt_jax.spaces import RESIDUAL_BLOCK, SPACES
from darts_pt_jax.supernet import Supernet

PARAMETERS = {  # counted on the reference code: 10 classes, 100 classes
    "darts": (1930618, 1953748),
    "darts_none": (1930618, 1953748),
    "s1": (405146, 428276),
    "s2": (665466, 688596),
    "s3": (665466, 688596),
    "s4": (624506, 647636),
    "nasbench201": (1686106, 1691956),
}


def parameters(space, classes):
    net = Supernet(SPACES[space], 5 if space == "nasbench201" else 8, 16, classes)
    weights = {kind: jnp.ones(graph.candidate_mask.shape) for kind, graph in net.space.cells.items()}
    keys = {"params": jax.random.key(0), "noise": jax.random.key(0)}
    shapes = jax.eval_shape(lambda: net.init(keys, jnp.zeros((2, 32, 32, 3)), weights, True))
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize("space", PARAMETERS)
def test_full_size_supernets_have_the_published_parameter_counts(space):
    assert (parameters(space, 10), parameters(space, 100)) == PARAMETERS[space]


def test_nasbench201_for_imagenet16_120():
    assert parameters("nasbench201", 120) == 1693256


@pytest.mark.parametrize("space", ["darts", "darts_none", "s1", "s2", "s3", "s4"])
def test_darts_cells_have_14_edges_numbered_node_by_node(space):
    for kind, graph in SPACES[space].cells.items():
        assert [(e.source, e.target) for e in graph.edges] == [(s, t) for t in range(2, 6) for s in range(t)]
        strides = [2 if kind == "reduce" and e.source < 2 else 1 for e in graph.edges]
        assert [e.stride for e in graph.edges] == strides
        assert SPACES[space].choosable_nodes(kind) == (3, 4, 5)
    assert SPACES[space].layout(8) == ("normal",) * 2 + ("reduce",) + ("normal",) * 2 + ("reduce",) + ("normal",) * 2


def test_candidates_have_the_order_of_the_reference_code():
    first = {name: space.cells["normal"].edges[0].candidates for name, space in SPACES.items()}
    assert first["darts"][:3] == ("max_pool_3x3", "avg_pool_3x3", "skip_connect")
    assert first["darts_none"] == ("none", *first["darts"])
    assert first["s2"] == ("skip_connect", "sep_conv_3x3")
    assert first["s3"] == ("none", "skip_connect", "sep_conv_3x3")
    assert first["s4"] == ("noise", "sep_conv_3x3")
    assert first["nasbench201"] == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    s1 = SPACES["s1"].cells
    assert s1["normal"].edges[5].candidates == ("max_pool_3x3", "skip_connect")
    assert s1["normal"].edges[13].candidates == ("dil_conv_3x3", "dil_conv_5x5")
    assert s1["reduce"].edges[1].candidates == ("max_pool_3x3", "dil_conv_3x3")
    assert s1["reduce"].edges[6].candidates == ("max_pool_3x3", "sep_conv_3x3")


def test_nasbench201_has_six_edges_and_two_residual_blocks():
    space = SPACES["nasbench201"]
    assert [(e.target, e.source) for e in space.cells["normal"].edges] == [
        (1, 0),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
        (3, 2),
    ]
    assert space.layout(5).count(RESIDUAL_BLOCK) == 2 and len(space.layout(5)) == 17
    assert space.choosable_nodes("normal") == ()

import numpy as np

from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES


def darts_v2():
    """The architecture of the DARTS paper (its DARTS_V2)."""
    edges = {
        "normal": "sep_conv_3x3.0 sep_conv_3x3.1 sep_conv_3x3.0 sep_conv_3x3.1 sep_conv_3x3.1 skip_connect.0 skip_connect.0 dil_conv_3x3.2",
        "reduce": "max_pool_3x3.0 max_pool_3x3.1 skip_connect.2 max_pool_3x3.1 max_pool_3x3.0 skip_connect.2 skip_connect.2 max_pool_3x3.1",
    }
    cells = {}
    for kind, text in edges.items():
        pairs = [(pair.split(".")[0], int(pair.split(".")[1])) for pair in text.split()]
        cells[kind] = tuple(tuple(pairs[i : i + 2]) for i in range(0, 8, 2))
    return Genotype(cells, {"normal": (2, 3, 4, 5), "reduce": (2, 3, 4, 5)})


def test_the_text_is_that_of_the_darts_code():
    assert darts_v2().text("darts") == (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
        "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
    )


def test_json_reads_back_equal():
    for space in SPACES.values():
        genotype = direct.random(space, {}, np.random.RandomState(1)).genotype(space)
        assert Genotype.from_json(genotype.to_json()) == genotype

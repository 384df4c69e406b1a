"""Parameter counts of the published architectures, in both sizes."""

import jax
import jax.numpy as jnp
import pytest

from darts_pt_jax import network
from darts_pt_jax.interop.published import genotypes
from darts_pt_jax.network import Network
from tests.tiers import all_slow_but

PARAMETERS = {
    # 36 channels and 20 cells; 16 channels and 8 cells (100 classes if the name has c100); without the auxiliary head
    "DARTS_V1": (3169414, 232890),
    "DARTS_V2": (3349342, 246106),
    "SDARTS_RS": (3606166, 301114),
    "SGAS_Cri1_best": (3795166, 309658),
    "darts_pt_s1_1": (1870822, 156986),
    "darts_pt_s1_2": (2022454, 164026),
    "darts_pt_s2_1": (3092518, 268218),
    "darts_pt_s2_2": (2789254, 254138),
    "darts_pt_s3_1": (3422134, 287610),
    "darts_pt_s3_2": (3535318, 312314),
    "darts_pt_s4_1": (4701718, 411002),
    "darts_pt_s4_2": (4701718, 411002),
    "blank_pt_s1_1": (2357470, 185818),
    "blank_pt_s1_2": (2385766, 191994),
    "blank_pt_s2_1": (3452374, 294650),
    "blank_pt_s2_2": (4311622, 377530),
    "blank_pt_s3_1": (2902438, 278842),
    "blank_pt_s3_2": (3812230, 321082),
    "blank_pt_s4_1": (4701718, 411002),
    "blank_pt_s4_2": (4701718, 411002),
    "darts_pt_s1_c100_1": (2465992, 221300),
    "darts_pt_s1_c100_2": (2074384, 187156),
    "darts_pt_s2_c100_1": (3083968, 277268),
    "darts_pt_s2_c100_2": (3114208, 284308),
    "darts_pt_s3_c100_1": (3833920, 337172),
    "darts_pt_s3_c100_2": (3443824, 303700),
    "darts_pt_s4_c100_1": (4753648, 434132),
    "darts_pt_s4_c100_2": (4753648, 434132),
    "blank_pt_s1_c100_1": (2462536, 219764),
    "blank_pt_s1_c100_2": (2437696, 215124),
    "blank_pt_s2_c100_1": (3144448, 291348),
    "blank_pt_s2_c100_2": (2841184, 277268),
    "blank_pt_s3_c100_1": (3890512, 349524),
    "blank_pt_s3_c100_2": (3947104, 361876),
    "blank_pt_s4_c100_1": (4753648, 434132),
    "blank_pt_s4_c100_2": (4753648, 434132),
    "darts_pt_s1_svhn_1": (2385766, 191994),
    "darts_pt_s1_svhn_2": (2054206, 171738),
    "darts_pt_s2_svhn_1": (3088630, 266490),
    "darts_pt_s2_svhn_2": (3145222, 278842),
    "darts_pt_s3_svhn_1": (3505078, 305274),
    "darts_pt_s3_svhn_2": (2815606, 259450),
    "darts_pt_s4_svhn_1": (4701718, 411002),
    "darts_pt_s4_svhn_2": (4701718, 411002),
    "blank_pt_s1_svhn_1": (2945638, 232634),
    "blank_pt_s1_svhn_2": (3433582, 263578),
    "blank_pt_s2_svhn_1": (4198438, 352826),
    "blank_pt_s2_svhn_2": (4255030, 365178),
    "blank_pt_s3_svhn_1": (3895174, 338746),
    "blank_pt_s3_svhn_2": (4641238, 396922),
    "blank_pt_s4_svhn_1": (4701718, 411002),
    "blank_pt_s4_svhn_2": (4701718, 411002),
    "darts_pt_s5_0": (2851246, 239002),
    "darts_pt_s5_1": (3053206, 263546),
    "darts_pt_s5_2": (2658142, 227866),
    "darts_pt_s5_3": (3328174, 271450),
    "blank_pt_s5_0": (3039598, 255962),
    "blank_pt_s5_1": (3148030, 277018),
    "blank_pt_s5_2": (2581894, 232058),
    "blank_pt_s5_3": (3404854, 284794),
}


def shapes(genotype, form="cifar", cells=8, channels=16, classes=10, auxiliary=True, size=32):
    net = Network(genotype, form, cells, channels, classes, auxiliary)
    rngs = dict.fromkeys(("params", "dropout", "noise"), jax.random.key(0))
    return jax.eval_shape(lambda: net.init(rngs, jnp.zeros((2, size, size, 3)), False))["params"]


def test_every_published_architecture_has_a_count():
    assert genotypes().keys() == PARAMETERS.keys() and len(PARAMETERS) == 60


@pytest.mark.parametrize("name", all_slow_but(["DARTS_V2", "darts_pt_s4_c100_1", "blank_pt_s5_1"], PARAMETERS))
def test_parameter_counts_are_the_published_ones(name):
    for count, cells, channels in zip(PARAMETERS[name], (20, 8), (36, 16), strict=True):
        params = shapes(genotypes()[name], "cifar", cells, channels, 100 if "c100" in name else 10)
        assert network.parameters(params) == count and "auxiliary" in params

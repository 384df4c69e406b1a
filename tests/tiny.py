"""The search spaces of the tests: other operations, three nodes, unequal numbers of candidates; and a single cell."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np

from darts_pt_jax import architecture, bilevel, ops
from darts_pt_jax.data.batches import Dataset
from darts_pt_jax.ops import Operation
from darts_pt_jax.spaces import RESIDUAL_BLOCK, SPACES, SearchSpace, dag
from darts_pt_jax.supernet import Supernet


class Centred(Operation):
    """Subtracts a learned value per channel."""

    @nn.compact
    def __call__(self, x, batch_statistics):
        return x[:, :: self.stride, :: self.stride] - self.param("centre", nn.initializers.ones, (self.channels,))


CANDIDATES = {e: ("skip_connect", "centred", "nor_conv_1x1")[: 2 + e % 2] for e in range(9)}
CANDIDATES[4] = ("none", "avg_pool_3x3", "centred", "skip_connect")

SPACE = SearchSpace(
    name="tiny",
    cells={"normal": dag(2, 3, CANDIDATES), "reduce": dag(2, 3, ("centred", "noise"), reduction=True)},
    layout=lambda cells: ("normal", "reduce") * cells,
    stem_multiplier=1,
)

BENCH = dataclasses.replace(SPACES["nasbench201"], layout=lambda cells: ("normal", RESIDUAL_BLOCK, "normal"))
"""NAS-Bench-201 with fewer cells than its layout allows."""

CELL = dataclasses.replace(SPACES["nasbench201"], name="cell", layout=lambda cells: ("normal",))
"""A single cell of NAS-Bench-201."""


def register():
    """Adds the spaces to the table, for configs."""
    ops.OPERATIONS["centred"] = Centred
    SPACES.update({space.name: space for space in (SPACE, CELL)})


SIZES = {"tiny": 1, "nasbench201": 1, "s4": 3}
"""Cells that make the smallest supernet with every cell kind."""


def supernet(space: str, classes: int = 3, channels: int = 4) -> Supernet:
    return Supernet(SPACES[space], SIZES.get(space, 3), channels, classes)


def dataset(n: int = 32, size: int = 8, classes: int = 3, pad: int = 1, flip: bool = True) -> Dataset:
    """Images whose mean depends on their class."""
    rng = np.random.default_rng(1)
    labels = np.arange(n, dtype=np.int32) % classes
    images = rng.integers(0, 100, (n, size, size, 2)) + 50 * labels[:, None, None, None]
    half = np.full(2, 0.5, np.float32)
    return Dataset(jax.numpy.asarray(images, jax.numpy.uint8), jax.numpy.asarray(labels), half, half, pad, flip)


def state(net: Supernet, key, size: int = 8) -> bilevel.SearchState:
    """A fresh state with alphas far from uniform."""
    fresh = bilevel.init_state(net, key, (size, size, 2), bilevel.weight_optimizer(), bilevel.alpha_optimizer(), 0.5)
    return fresh


def weights(net: Supernet, state: bilevel.SearchState) -> dict:
    return architecture.edge_weights(net.space, state.alphas, state.decisions)

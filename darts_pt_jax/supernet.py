"""The weight-sharing supernet: a pure function of variables, images and edge weights.

The edge weights, one array [E, O] for every cell kind, are explicit: alphas, masks, noise on alphas and decisions all
act through them and through nothing else.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from darts_pt_jax import ops
from darts_pt_jax.spaces import RESIDUAL_BLOCK, CellGraph, Edge, SearchSpace

EdgeWeights = Mapping[str, jax.Array]
"""float [E, O] by cell kind; entry [e, o] multiplies candidate o of edge e in every cell of the kind."""


class MixedEdge(nn.Module):
    """The sum of an edge's candidates, each times its weight (DARTS, equation 2)."""

    edge: Edge
    channels: int
    pool_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, weights: jax.Array, batch_statistics: bool) -> jax.Array:
        mixed = 0.0
        for weight, name in zip(weights, self.edge.candidates, strict=False):
            make = ops.OPERATIONS[name]
            operation = make(self.channels, self.edge.stride, pool_norm=self.pool_norm, name=name)
            mixed += weight * operation(x, batch_statistics)
        return mixed


class Cell(nn.Module):
    """One searched cell.

    Attributes:
      graph: the cell's graph.
      channels: C, of every state inside the cell.
      pool_norm: see `SearchSpace`.
      after_reduction: whether the previous cell halved the size, so that the older input is still twice as large.
    """

    graph: CellGraph
    channels: int
    pool_norm: bool
    after_reduction: bool

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, ...], weights: jax.Array, batch_statistics: bool) -> jax.Array:
        states = list(inputs)
        if self.graph.inputs == 2:
            older = ops.FactorizedReduce if self.after_reduction else ops.ReLUConvNorm
            states[0] = older(self.channels, name="preprocess_0")(states[0], batch_statistics)
            states[1] = ops.ReLUConvNorm(self.channels, name="preprocess_1")(states[1], batch_statistics)
        for node in self.graph.node_states:
            total = 0.0
            for e in self.graph.incoming(node):
                edge = self.graph.edges[e]
                mixed = MixedEdge(edge, self.channels, self.pool_norm, name=f"edge_{e}")
                total += mixed(states[edge.source], weights[e], batch_statistics)
            states.append(total)
        return jnp.concatenate([states[s] for s in self.graph.outputs], -1)


class Supernet(nn.Module):
    """The supernet of a space.

    Attributes:
      space: the search space.
      cells: depth, as the space's layout counts it.
      channels: C of the first cells; doubles at every reduction.
      classes: number of classes.

    Call with images [B, H, W, C_image], edge weights, and whether BatchNorm uses the batch's statistics (training and
    perturbation scoring) or the running ones. Returns logits [B, classes]. A space with the noise operation needs the
    random stream "noise".
    """

    space: SearchSpace
    cells: int
    channels: int
    classes: int

    @nn.compact
    def __call__(self, images: jax.Array, edge_weights: EdgeWeights, batch_statistics: bool) -> jax.Array:
        channels = self.channels
        x = ops.Conv(self.space.stem_multiplier * channels, 3, name="stem_conv")(images)
        x = ops.Norm(affine=True, name="stem_norm")(x, batch_statistics)
        previous, after_reduction = x, False
        for i, kind in enumerate(self.space.layout(self.cells)):
            if kind == RESIDUAL_BLOCK:
                channels *= 2
                previous, x = x, ops.ResidualBlock(channels, name=f"cells_{i}")(x, batch_statistics)
                continue
            graph = self.space.cells[kind]
            channels *= 1 + graph.reduction
            cell = Cell(graph, channels, self.space.pool_norm, after_reduction, name=f"cells_{i}")
            inputs = (previous, x)[-graph.inputs :]
            previous, x = x, cell(inputs, edge_weights[kind], batch_statistics)
            after_reduction = graph.reduction
        if self.space.final_norm:
            x = nn.relu(ops.Norm(affine=True, name="final_norm")(x, batch_statistics))
        x = x.mean((1, 2))
        bound = x.shape[-1] ** -0.5
        return nn.Dense(self.classes, kernel_init=ops.torch_uniform, bias_init=_uniform(bound), name="head")(x)


def _uniform(bound: float):
    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init

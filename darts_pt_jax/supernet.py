"""The weight-sharing supernet: a pure function of variables, images and edge weights.

The edge weights, one array [E, O] for every cell kind, are explicit: alphas, masks, noise on alphas and decisions all
act through them and through nothing else.

The plain form computes one operation of one edge after the other. The grouped form, the default, computes together what
leaves a state of a cell: operations without parameters once for all edges, and those that say so (`Operation.stacks`) as
one, under vmap over the edges.
"""

import collections
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from darts_pt_jax import kernels, ops
from darts_pt_jax.spaces import RESIDUAL_BLOCK, CellGraph, Edge, SearchSpace

EdgeWeights = Mapping[str, jax.Array]
"""float [E, O] by cell kind; entry [e, o] multiplies candidate o of edge e in every cell of the kind."""


class MixedEdge(nn.Module):
    """The sum of an edge's candidates, each times its weight (DARTS, equation 2).

    Called with the edge's input, its weights [O], and what is computed already: a part of the sum, and the new running
    statistics of the candidates in it, by name.
    """

    edge: Edge
    channels: int
    pool_norm: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array, batch_statistics: bool, mixed=0.0, done: Mapping[str, Mapping] = {}
    ) -> jax.Array:
        for o, name in self.edge.operations:
            if name not in done:
                make = ops.OPERATIONS[name]
                operation = make(self.channels, self.edge.stride, pool_norm=self.pool_norm, name=name)
                mixed += weights[o].astype(x.dtype) * operation(x, batch_statistics)
            elif done[name] and self.is_mutable_collection("batch_stats"):
                self.put_variable("batch_stats", name, done[name])
        return mixed


class Cell(nn.Module):
    """One searched cell.

    Attributes:
      graph: the cell's graph.
      channels: C, of every state inside the cell.
      pool_norm: see `SearchSpace`.
      after_reduction: whether the previous cell halved the size, so that the older input is still twice as large.
      plain: see `Supernet`.
    """

    graph: CellGraph
    channels: int
    pool_norm: bool
    after_reduction: bool
    plain: bool

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, ...], weights: jax.Array, batch_statistics: bool) -> jax.Array:
        states, done = list(inputs), {}
        if self.graph.inputs == 2:
            older = ops.FactorizedReduce if self.after_reduction else ops.ReLUConvNorm
            states[0] = older(self.channels, name="preprocess_0")(states[0], batch_statistics)
            states[1] = ops.ReLUConvNorm(self.channels, name="preprocess_1")(states[1], batch_statistics)
        for s in range(self.graph.inputs + self.graph.nodes):
            if s in self.graph.node_states:
                states.append(self._node(s, states, weights, batch_statistics, done))
            if not self.plain and not self.is_initializing():
                states[s] = kernels.meeting_point(states[s])
                done |= self._leaving(s, states[s], weights, batch_statistics)
        return jnp.concatenate([states[s] for s in self.graph.outputs], -1)

    def _node(self, node: int, states, weights, batch_statistics: bool, done: Mapping) -> jax.Array:
        total = 0.0
        for e in self.graph.incoming(node):
            edge = self.graph.edges[e]
            mixed = MixedEdge(edge, self.channels, self.pool_norm, name=f"edge_{e}")
            total += mixed(states[edge.source], weights[e], batch_statistics, *done.get(e, ()))
        return total

    def _leaving(self, state: int, x: jax.Array, weights: jax.Array, batch_statistics: bool) -> dict:
        """What the edges that leave a state share of their work: `MixedEdge`'s last two arguments, by edge."""
        groups = collections.defaultdict(list)
        for e, edge in enumerate(self.graph.edges):
            for o, name in edge.operations if edge.source == state else ():
                groups[name, edge.stride].append((e, o))
        done = collections.defaultdict(lambda: [0.0, {}])
        sums = collections.defaultdict(float)  # [G, B, H, W, C] by group of edges, split up at the end
        for (name, stride), members in groups.items():
            operation = ops.OPERATIONS[name](self.channels, stride, pool_norm=self.pool_norm, parent=None)
            once = batch_statistics and not ops.has_parameters(name, stride)
            if ops.draws(name) or not (once or getattr(operation, "stacks", False)):
                continue
            edges = tuple(e for e, _ in members)
            variables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(self._variables_of(e, name) for e in edges))

            def run(variables, x, operation=operation):
                return operation.apply(variables, x, batch_statistics, mutable=["batch_stats"])

            if once:
                output, updated = jax.vmap(run, (0, None), (None, 0), axis_size=len(edges))(variables, x)
                for e, o in members:
                    done[e][0] += weights[e, o].astype(x.dtype) * output
            else:
                outputs, updated = jax.vmap(run)(variables, kernels.share(x, len(edges)))
                factors = jnp.stack([weights[e, o] for e, o in members]).astype(x.dtype)
                sums[edges] += factors[:, None, None, None, None] * outputs
            for i, e in enumerate(edges):
                done[e][1][name] = jax.tree.map(lambda leaf, i=i: leaf[i], updated.get("batch_stats", {}))
        for edges, total in sums.items():
            for e, part in zip(edges, jax.lax.split(total, (1,) * len(edges)), strict=True):
                done[e][0] += part[0]
        return dict(done)

    def _variables_of(self, edge: int, name: str) -> dict:
        of_edge = {collection: tree.get(f"edge_{edge}", {}) for collection, tree in self.variables.items()}
        return {collection: tree[name] for collection, tree in of_edge.items() if name in tree}


class Supernet(nn.Module):
    """The supernet of a space.

    Attributes:
      space: the search space.
      cells: depth, as the space's layout counts it.
      channels: C of the first cells; doubles at every reduction.
      classes: number of classes.
      dtype: what images and activations are computed in; parameters, BatchNorm's statistics and logits are float32.
      plain: computes edge by edge, as the formulas say; slower, equal to rounding.

    Call with images [B, H, W, C_image], edge weights, and whether BatchNorm uses the batch's statistics (training and
    perturbation scoring) or the running ones. Returns logits [B, classes]. A space with the noise operation needs the
    random stream "noise".
    """

    space: SearchSpace
    cells: int
    channels: int
    classes: int
    dtype: jnp.dtype = jnp.float32
    plain: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, edge_weights: EdgeWeights, batch_statistics: bool) -> jax.Array:
        channels = self.channels
        x = ops.Conv(self.space.stem_multiplier * channels, 3, name="stem_conv")(images.astype(self.dtype))
        x = ops.Norm(affine=True, name="stem_norm")(x, batch_statistics)
        previous, after_reduction = x, False
        for i, kind in enumerate(self.space.layout(self.cells)):
            if kind == RESIDUAL_BLOCK:
                channels *= 2
                previous, x = x, ops.ResidualBlock(channels, name=f"cells_{i}")(x, batch_statistics)
                continue
            graph = self.space.cells[kind]
            channels *= 1 + graph.reduction
            cell = Cell(graph, channels, self.space.pool_norm, after_reduction, self.plain, name=f"cells_{i}")
            inputs = (previous, x)[-graph.inputs :]
            previous, x = x, cell(inputs, edge_weights[kind], batch_statistics)
            after_reduction = graph.reduction
        if self.space.final_norm:
            x = nn.relu(ops.Norm(affine=True, name="final_norm")(x, batch_statistics))
        x = x.astype(jnp.float32).mean((1, 2))
        bound = x.shape[-1] ** -0.5
        return nn.Dense(self.classes, kernel_init=ops.torch_uniform, bias_init=_uniform(bound), name="head")(x)


def _uniform(bound: float):
    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init

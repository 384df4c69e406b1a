"""The weight-sharing supernet: a pure function of variables, images and edge weights.

The edge weights, one array [E, O] for every cell kind, are explicit: alphas, masks, noise on alphas and decisions all
act through them and through nothing else.

Edges that leave a state with the same operation at the same stride are a group, whose variables are stacked: arrays
[G, ...] over its edges. Operations that neither have parameters nor draw are the same on all of them, and have their
variables once. The plain form computes one operation of one edge after the other; the default computes these once for a
group, and those that say so (`Operation.stacks`) as one, under vmap over the edges.
"""

import collections
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from darts_pt_jax import kernels, ops
from darts_pt_jax.spaces import RESIDUAL_BLOCK, CellGraph, Group, SearchSpace

EdgeWeights = Mapping[str, jax.Array]
"""float [E, O] by cell kind; entry [e, o] multiplies candidate o of edge e in every cell of the kind."""


class Cell(nn.Module):
    """One searched cell. Its variables are those of its preprocessing, and those of the candidates by `Group.label`.

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
        states, edges = list(inputs), collections.defaultdict(float)
        noise = self.make_rng("noise") if any(ops.draws(g.operation) for g in self.graph.groups) else None
        entries = jax.lax.split(weights.reshape(-1), (1,) * weights.size)
        if self.graph.inputs == 2:
            older = ops.FactorizedReduce if self.after_reduction else ops.ReLUConvNorm
            states[0] = older(self.channels, name="preprocess_0")(states[0], batch_statistics)
            states[1] = ops.ReLUConvNorm(self.channels, name="preprocess_1")(states[1], batch_statistics)
        for s in range(self.graph.inputs + self.graph.nodes):
            if s in self.graph.node_states:
                states.append(sum(edges[e] for e in self.graph.incoming(s)))
            states[s] = kernels.meeting_point(states[s])
            for e, part in self._leaving(s, states[s], entries, batch_statistics, noise):
                edges[e] += part
        return jnp.concatenate([states[s] for s in self.graph.outputs], -1)

    def _leaving(
        self, state: int, x: jax.Array, entries: Sequence[jax.Array], batch_statistics: bool, noise: jax.Array | None
    ) -> Iterator[tuple[int, jax.Array]]:
        """What the edges that leave a state are sums of: candidates times their weights (DARTS, equation 2)."""
        stacks, single = collections.defaultdict(list), collections.defaultdict(list)
        for group in self.graph.groups:
            if group.source != state:
                continue
            weights = [entries[i] for i in self._entries(group)]
            outputs, stacked = self._outputs(group, x, batch_statistics, noise)
            self.sow("intermediates", group.label, outputs)  # nothing, unless that collection is asked for
            if stacked:
                stacks[group.edges].append((jnp.concatenate(weights), outputs))
            else:
                for e, weight, y in zip(group.edges, weights, outputs, strict=True):
                    single[e].append((weight, y))
        mixture = kernels.mixture_plain if self.plain else kernels.mixture
        for e, parts in single.items():
            weights, outputs = zip(*parts, strict=True)
            yield e, mixture(jnp.concatenate(weights), outputs)
        for of, parts in stacks.items():
            weights, outputs = zip(*parts, strict=True)
            mixed = jax.vmap(mixture, (1, 0))(jnp.stack(weights), outputs)
            yield from ((e, part[0]) for e, part in zip(of, jax.lax.split(mixed, (1,) * len(of)), strict=True))

    def _outputs(
        self, group: Group, x: jax.Array, batch_statistics: bool, noise: jax.Array | None
    ) -> tuple[jax.Array | Sequence[jax.Array], bool]:
        """What a candidate gives on each edge of its group, and whether that is one array [G, B, H, W, C]."""
        name, count, stride, draws = group.operation, len(group.edges), group.stride, ops.draws(group.operation)
        by_edge, of_norm = ops.differs_by_edge(name, stride), {"pool_norm": self.pool_norm}
        new = functools.partial(ops.init, name=name, channels=self.channels, stride=stride, **of_norm)
        init = lambda key: _stacked([new(k) for k in jax.random.split(key, count)]) if by_edge else new(key)  # noqa: E731
        params, stats, own = {}, None, ops.has_parameters(name, stride)
        if self.is_initializing():
            made = init(self.make_rng("params") if own else jax.random.key(0))
        if own:  # Flax's `param` would make new ones each time, to compare the shapes
            params = self.variable("params", group.label, lambda: made["params"]).value
        if ops.has_statistics(name, stride, **of_norm):
            stats = self.variable("batch_stats", group.label, lambda: made["batch_stats"])
        if self.is_initializing():
            return count * [jnp.zeros_like(x[:, ::stride, ::stride])], False
        variables = {"params": params, "batch_stats": stats.value if stats else {}}
        operation = ops.OPERATIONS[name](self.channels, stride, **of_norm, parent=None)

        def run(variables, x, entry=None):
            rngs = {"noise": jax.random.fold_in(noise, entry)} if draws else {}
            y, updated = operation.apply(variables, x, batch_statistics, mutable=["batch_stats"], rngs=rngs)
            return y.astype(x.dtype), updated.get("batch_stats", {})

        stacked = by_edge and getattr(operation, "stacks", False) and not draws and not self.plain
        if stacked:
            outputs, updated = jax.vmap(run)(variables, kernels.share(x, count))
        elif by_edge or self.plain:
            of_edge = lambda i: jax.tree.map(lambda leaf: leaf[i], variables) if by_edge else variables  # noqa: E731
            entries = self._entries(group)
            outputs, updated = zip(*(run(of_edge(i), x, entry) for i, entry in enumerate(entries)), strict=True)
            updated = _stacked(updated) if by_edge else updated[0]
        else:
            output, updated = run(variables, x)
            outputs = count * [output]
        if stats and self.is_mutable_collection("batch_stats"):
            stats.value = updated
        return outputs, stacked

    def _entries(self, group: Group) -> list[int]:
        """Where a group's edge weights stand in the flat [E * O]."""
        return [e * self.graph.width + o for e, o in zip(group.edges, group.candidates, strict=True)]


class Supernet(nn.Module):
    """The supernet of a space.

    Attributes:
      space: the search space.
      cells: depth, as the space's layout counts it.
      channels: C of the first cells; doubles at every reduction.
      classes: number of classes.
      dtype: what images and activations are computed in; parameters, BatchNorm's statistics and logits are float32.
      plain: computes edge by edge, as the formulas say; slower, equal to rounding.
      remat: keeps of a cell, for the gradient, its inputs alone, and computes the rest again (Chen et al., 2016).

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
    remat: bool = False

    def group_of(self, names: Sequence[str]) -> Group | None:
        """The group whose variables an array is of, given its names in a state; None for those of stem, cell and head."""
        kinds = self.space.layout(self.cells)
        for cell, label in itertools.pairwise(names):
            graph = self.space.cells.get(kinds[int(cell[6:])]) if cell.startswith("cells_") else None
            for group in graph.groups if graph else ():
                if group.label == label:
                    return group
        return None

    def edges_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The edges whose variables are the rows of an array, given its names in a state; () where rows are no edges."""
        group = self.group_of(names)
        return group.edges if group and ops.differs_by_edge(group.operation, group.stride) else ()

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
            cell_type = nn.remat(Cell, static_argnums=(3,)) if self.remat else Cell
            cell = cell_type(graph, channels, self.space.pool_norm, after_reduction, self.plain, name=f"cells_{i}")
            inputs = (previous, x)[-graph.inputs :]
            previous, x = x, cell(inputs, edge_weights[kind], batch_statistics)
            after_reduction = graph.reduction
        if self.space.final_norm:
            x = kernels.relu(ops.Norm(affine=True, name="final_norm")(x, batch_statistics))
        x = x.astype(jnp.float32).mean((1, 2))
        return ops.Linear(self.classes, name="head")(x)


def _stacked(trees: Sequence) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

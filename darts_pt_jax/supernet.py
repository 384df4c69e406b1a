"""The weight-sharing supernet: a pure function of variables, images and edge weights.

Edge weights are an argument, one array [E, O] for each cell kind. Alphas, masks, noise on alphas and decisions act
through them alone.

The edges that leave a state with the same operation at the same stride form a group. If the operation has parameters or
draws random numbers, the variables of the group are stacked, [G, ...] over its G edges; if not, all edges share them.
"""

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from darts_pt_jax import kernels, ops
from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.channels import AllChannels, MixedChannels
from darts_pt_jax.spaces import RESIDUAL_BLOCK, CellGraph, Group, SearchSpace


class Cell(nn.Module):
    """One searched cell. Its variables are those of the preprocessing, and those of each group by `Group.label`.

    Attributes:
      graph: the cell's graph.
      channels: C, of every state inside the cell.
      pool_norm: see `SearchSpace`.
      after_reduction: whether the previous cell halved the size, so that the older input is still twice as large.
      plain, mixed_channels: see `Supernet`.
    """

    graph: CellGraph
    channels: int
    pool_norm: bool
    after_reduction: bool
    plain: bool
    mixed_channels: MixedChannels

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, ...], weights: jax.Array, batch_statistics: bool) -> jax.Array:
        states: list[Any] = list(inputs)
        edges: dict[int, Any] = collections.defaultdict(float)
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
            part = self.mixed_channels.part(states[s])
            for e, mixed in self._mixed(s, part, entries, batch_statistics, noise).items():
                row = entries[e * self.graph.width : (e + 1) * self.graph.width]
                edges[e] = self.mixed_channels.rejoined(mixed, states[s], row, self.graph.edges[e].stride)
        return jnp.concatenate([states[s] for s in self.graph.outputs], -1)

    def _mixed(
        self, state: int, x: jax.Array, entries: Sequence[jax.Array], batch_statistics: bool, noise: jax.Array | None
    ) -> Mapping[int, jax.Array]:
        """For each edge that leaves a state, the sum of its candidates times their weights (DARTS, equation 2).

        Args:
          state: the state's number.
          x: what enters the candidates, [B, H, W, C].
          entries: the edge weights, E * O arrays [1].
          batch_statistics: see `Supernet`.
          noise: the key of operations that draw.
        """
        alone: dict[int, list] = collections.defaultdict(list)
        together: dict[tuple[int, ...], list] = collections.defaultdict(list)
        for group in self.graph.groups:
            if group.source != state:
                continue
            weights = [entries[i] for i in self._entries(group)]
            outputs = self._outputs(group, x, batch_statistics, noise)
            self.sow("intermediates", group.label, outputs)  # nothing, unless that collection is asked for
            if self._form(group) == "together":
                together[group.edges].append((jnp.concatenate(weights), outputs))
            else:
                for e, weight, y in zip(group.edges, weights, outputs, strict=True):
                    alone[e].append((weight, y))

        mixture = kernels.mixture_plain if self.plain else kernels.mixture
        sums: dict[int, Any] = collections.defaultdict(float)
        for e, parts in alone.items():
            of_edge, images = zip(*parts, strict=True)
            sums[e] += mixture(jnp.concatenate(of_edge), images)
        for edges, parts in together.items():
            of_groups, images = zip(*parts, strict=True)
            mixed = jax.vmap(mixture, (1, 0))(jnp.stack(of_groups), images)
            for e, row in zip(edges, jax.lax.split(mixed, (1,) * len(edges)), strict=True):
                sums[e] += row[0]
        return sums

    def _outputs(
        self, group: Group, x: jax.Array, batch_statistics: bool, noise: Any
    ) -> Sequence[jax.Array] | jax.Array:
        """A candidate's output on each edge of its group: G arrays, or one array [G, B, H, W, C] if "together"."""
        variables, statistics = self._variables(group)
        if self.is_initializing():
            return len(group.edges) * [jnp.zeros_like(x[:, :: group.stride, :: group.stride])]
        channels, entries = self.mixed_channels.count(self.channels), self._entries(group)
        operation = ops.OPERATIONS[group.operation](channels, group.stride, pool_norm=self.pool_norm, parent=None)
        draws = ops.draws(group.operation)

        outputs: Any

        def run(variables, x, entry=None):
            rngs = {"noise": jax.random.fold_in(noise, entry)} if draws else {}
            y, updated = operation.apply(variables, x, batch_statistics, mutable=["batch_stats"], rngs=rngs)
            return y.astype(x.dtype), updated.get("batch_stats", {})

        match self._form(group):
            case "once":
                output, updated = run(variables, x)
                outputs = len(entries) * [output]
            case "together":
                outputs, updated = jax.vmap(run)(variables, kernels.share(x, len(entries)))
            case "each" if _by_edge(group):
                each = (run(_row(variables, i), x, entry) for i, entry in enumerate(entries))
                outputs, each_updated = zip(*each, strict=True)
                updated = _stacked(each_updated)
            case "each":
                outputs, (updated, *_) = zip(*(run(variables, x, entry) for entry in entries), strict=True)
        if statistics and self.is_mutable_collection("batch_stats"):
            statistics.value = updated
        return outputs

    def _form(self, group: Group) -> Literal["once", "each", "together"]:
        """How a group is computed: once for all its edges, on each edge by itself, or on all together, by vmap.

        During initialisation, nothing is computed, and the outputs are zeros for each edge.
        """
        if self.plain or self.is_initializing():
            return "each"
        if not _by_edge(group):
            return "once"
        return "together" if ops.stacks(group.operation) else "each"

    def _variables(self, group: Group) -> tuple[dict, nn.Variable | None]:
        """A group's "params" and "batch_stats", and where the latter are kept, if there are any."""
        name, stride = group.operation, group.stride
        made = self._initial(group) if self.is_initializing() else {}
        params, statistics = {}, None
        if ops.has_parameters(name, stride):  # Flax's `param` would make new ones each time, to compare the shapes
            params = self.variable("params", group.label, lambda: made["params"]).value
        if ops.has_statistics(name, stride, self.pool_norm):
            statistics = self.variable("batch_stats", group.label, lambda: made["batch_stats"])
        return {"params": params, "batch_stats": statistics.value if statistics else {}}, statistics

    def _initial(self, group: Group) -> dict:
        """A group's first variables."""

        def init(key: jax.Array) -> dict:
            channels = self.mixed_channels.count(self.channels)
            return ops.init(key, group.operation, channels, group.stride, self.pool_norm)

        random = ops.has_parameters(group.operation, group.stride)
        key = self.make_rng("params") if random else jax.random.key(0)
        return _stacked([init(k) for k in jax.random.split(key, len(group.edges))]) if _by_edge(group) else init(key)

    def _entries(self, group: Group) -> list[int]:
        """Where a group's edge weights stand in the flat [E * O]."""
        return [e * self.graph.width + o for e, o in zip(group.edges, group.candidates, strict=True)]


def _by_edge(group: Group) -> bool:
    """Whether a group's operation differs between its edges."""
    return ops.differs_by_edge(group.operation, group.stride)


def _stacked(trees: Sequence) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _row(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


class Supernet(nn.Module):
    """The supernet of a space.

    Attributes:
      space: the search space.
      cells: depth, as the space's layout counts it.
      channels: C of the first cells; doubles at every reduction.
      classes: number of classes.
      dtype: type of images and activations; parameters, BatchNorm's statistics and logits are float32.
      plain: computes one operation of one edge after the other, as the formulas say: slower, equal up to rounding. The
        default computes an operation that is the same on all edges of a group once, and those with `Operation.stacks`
        for all edges together.
      remat: keeps only the inputs of each cell for the gradient, and computes the rest again (Chen et al., 2016).
      mixed_channels: the part of the channels that the edges mix.

    Call with images [B, H, W, C_image], edge weights, and whether BatchNorm uses the batch's statistics (training and
    perturbation scoring) or the running ones. Returns logits [B, classes]. A space with operations that draw, such as
    noise, needs the random stream "noise".

    Raises:
      ValueError: a candidate of the space is no operation.
      AssertionError: in a call, images or edge weights have other shapes.
    """

    space: SearchSpace
    cells: int
    channels: int
    classes: int
    dtype: jnp.dtype = jnp.float32
    plain: bool = False
    remat: bool = False
    mixed_channels: MixedChannels = AllChannels()

    def __post_init__(self):
        ops.check_space(self.space)
        super().__post_init__()

    def group_of(self, names: Sequence[str]) -> Group | None:
        """The group that a variable belongs to, given its path in the state; None in the stem, preprocessing and head."""
        kinds = self.space.layout(self.cells)
        for cell, label in itertools.pairwise(names):
            graph = self.space.cells.get(kinds[int(cell[6:])]) if cell.startswith("cells_") else None
            for group in graph.groups if graph else ():
                if group.label == label:
                    return group
        return None

    def edges_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The edges that the rows of a variable belong to, given its path in the state; () if its rows do not belong to edges."""
        group = self.group_of(names)
        return group.edges if group and _by_edge(group) else ()

    @nn.compact
    def __call__(self, images: jax.Array, edge_weights: EdgeWeights, batch_statistics: bool) -> jax.Array:
        chex.assert_rank(images, 4)
        for kind, graph in self.space.cells.items():
            message = f"edge weights of the {kind} cell: [edges, candidates]"
            chex.assert_shape(edge_weights[kind], (len(graph.edges), graph.width), custom_message=message)
        channels = self.channels
        x = ops.Conv(self.space.stem_multiplier * channels, 3, name="stem_conv")(images.astype(self.dtype))
        x = ops.Norm(affine=True, name="stem_norm")(x, batch_statistics)
        previous, after_reduction = x, False
        pool_norm = self.space.pool_norm
        for i, kind in enumerate(self.space.layout(self.cells)):
            name = f"cells_{i}"
            if kind == RESIDUAL_BLOCK:
                channels *= 2
                previous, x = x, ops.ResidualBlock(channels, name=name)(x, batch_statistics)
                continue
            graph = self.space.cells[kind]
            channels *= 1 + graph.reduction
            cell_type = nn.remat(Cell, static_argnums=(3,)) if self.remat else Cell
            cell = cell_type(graph, channels, pool_norm, after_reduction, self.plain, self.mixed_channels, name=name)
            inputs = (previous, x)[-graph.inputs :]
            previous, x = x, cell(inputs, edge_weights[kind], batch_statistics)
            after_reduction = graph.reduction
        if self.space.final_norm:
            x = kernels.relu(ops.Norm(affine=True, name="final_norm")(x, batch_statistics))
        x = x.astype(jnp.float32).mean((1, 2))
        return ops.Linear(self.classes, name="head")(x)

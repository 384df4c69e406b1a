"""Swaps edges of a trained supernet, and layers of a plain network (paper, Table 1; Veit et al., 2016)."""

import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import ops
from darts_pt_jax.spaces import CellGraph, SearchSpace
from darts_pt_jax.supernet import EdgeWeights, Supernet


def pairs(graph: CellGraph) -> list[tuple[int, int]]:
    """Pairs of edges that may change places: they have the same stride and candidates."""
    like = [(edge.stride, edge.candidates) for edge in graph.edges]
    return [(a, b) for a, b in itertools.combinations(range(len(like)), 2) if like[a] == like[b]]


def fixed_operations(space: SearchSpace) -> list[str]:
    """Candidates whose variables all edges share, so that an edge cannot take them along."""
    return sorted({
        group.operation for graph in space.cells.values() for group in graph.groups
        if ops.has_statistics(group.operation, group.stride, pool_norm=space.pool_norm)
        and not ops.differs_by_edge(group.operation, group.stride)
    })  # fmt: skip


def swap_edges(
    net: Supernet, variables: Mapping, weights: EdgeWeights, swapped: Mapping[str, tuple[int, int]]
) -> tuple[dict, dict]:
    """Swaps two edges in every cell of a kind, with their variables and weights.

    Args:
      net: the supernet; none of its candidates is in `fixed_operations`.
      variables: its variables.
      weights: its edge weights [E, O] by cell kind.
      swapped: one of `pairs` by cell kind.

    Returns:
      Variables and edge weights after the swap.
    """
    place = {}
    for kind, graph in net.space.cells.items():
        place[kind] = np.arange(len(graph.edges))
        if kind in swapped:
            place[kind][list(swapped[kind])] = swapped[kind][::-1]
    moved = {kind: jnp.asarray(weights[kind])[place[kind]] for kind in weights}
    layout = net.space.layout(net.cells)
    result = {}
    for collection, tree in variables.items():
        result[collection] = dict(tree)
        for i, kind in enumerate(layout):
            name = f"cells_{i}"
            if kind in swapped and name in tree:
                result[collection][name] = _moved(net.space.cells[kind], tree[name], place[kind])
    return result, moved


def _moved(graph: CellGraph, cell: Mapping, place: np.ndarray) -> dict:
    """A cell's variables, where edge e has those of edge `place[e]`."""
    rows = {(e, g.operation): (g, i) for g in graph.groups for i, e in enumerate(g.edges)}
    moved = dict(cell)
    for group in graph.groups:
        if group.label in cell and ops.differs_by_edge(group.operation, group.stride):
            taken = [rows[place[e], group.operation] for e in group.edges]
            of_edges = [jax.tree.map(lambda leaf, i=i: leaf[i], cell[g.label]) for g, i in taken]
            moved[group.label] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_edges)
    return moved


def swap_layers(variables: Mapping, swapped: Sequence[tuple[int, int]]) -> dict:
    """The variables of a `LayeredNetwork` after a swap of two layers in each stage; `swapped` has a pair for each."""
    result = {collection: dict(tree) for collection, tree in variables.items()}
    for collection, tree in variables.items():
        for stage, (a, b) in enumerate(swapped):
            one, other = (f"stage_{stage}_layer_{i}" for i in (a, b))
            result[collection][one], result[collection][other] = tree[other], tree[one]
    return result

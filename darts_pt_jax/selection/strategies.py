"""Strategies: which masks a decision scores, and how the scores choose (paper, Algorithms 1 and 2).

A row of `STRATEGIES` decides the operation of an edge, a row of `TOPOLOGIES` the inputs of a node. The choice depends only
on the scores, so that it can be repeated from their record.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from darts_pt_jax.spaces import SearchSpace


def without_operations(space: SearchSpace, kind: str, edge: int) -> np.ndarray:
    """float32 masks [O, E, O], one for each candidate of an edge: the candidate's entry is 0, all others are 1."""
    graph = space.cells[kind]
    masks = np.ones((len(graph.edges[edge].candidates), len(graph.edges), graph.width), np.float32)
    for o in range(len(masks)):
        masks[o, edge, o] = 0
    return masks


def without_edges(space: SearchSpace, kind: str, edges: Sequence[int]) -> np.ndarray:
    """float32 masks [len(edges), E, O], one for each of `edges`: the edge's row is 0, all others are 1."""
    graph = space.cells[kind]
    masks = np.ones((len(edges), len(graph.edges), graph.width), np.float32)
    masks[np.arange(len(edges)), np.asarray(edges)] = 0
    return masks


def most_harmful(harms: np.ndarray, eligible: Sequence[int]) -> tuple[int, float]:
    """Chooses the candidate whose removal hurts most; the first of equal ones, as in the reference code.

    Args:
      harms: how much each removal hurts, [K] (`Criterion.harms`).
      eligible: positions that may be chosen.

    Returns:
      The chosen position, and its margin over the next eligible one, in units of the criterion.
    """
    harm = harms[list(eligible)]
    rest = np.delete(harm, harm.argmax())
    margin = (harm.max() - rest.max()).item() if rest.size else 0
    return list(eligible)[int(harm.argmax())], margin


def least_harmful(harms: np.ndarray, eligible: Sequence[int] | None = None) -> tuple[int, float]:
    """Position of the edge whose removal hurts least (the last of equal ones), and its margin to the next.

    Args:
      harms: how much each removal hurts, [K].
      eligible: positions that may be dropped; by default all.
    """
    positions = list(range(len(harms)) if eligible is None else eligible)
    harm = harms[positions]
    last = len(harm) - 1 - int(harm[::-1].argmin())
    rest = np.delete(harm, last)
    return positions[last], (rest.min() - harm[last]).item() if rest.size else 0


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Decides the operation of an edge.

    Attributes:
      name: the value of `select.strategy`.
      masks: `masks(space, kind, edge)` gives float32 masks [O, E, O], one for each candidate of the edge.
      choose: `choose(harms, eligible)` gives the position of the candidate to keep, and its margin, from harms [O].
    """

    name: str
    masks: Callable[[SearchSpace, str, int], np.ndarray]
    choose: Callable[[np.ndarray, Sequence[int]], tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Topology:
    """Decides the inputs of a node: drops edges one by one, each time the edge whose removal hurts least.

    Attributes:
      name: the value of `select.topology`.
      rescores: whether to score the remaining edges anew before each elimination (an eliminated edge has its full weight
        in later passes); otherwise all edges are scored once.
    """

    name: str
    rescores: bool


LEAVE_ONE_OUT = Strategy("leave_one_out", without_operations, most_harmful)

STRATEGIES = {strategy.name: strategy for strategy in (LEAVE_ONE_OUT,)}
"""Strategies by the value of `select.strategy`."""

TOPOLOGIES = {
    topology.name: topology for topology in (Topology("leave_one_out", True), Topology("single_ranking", False))
}
"""Rules by the value of `select.topology`: leave_one_out as in the reference code, single_ranking as in Algorithm 2."""

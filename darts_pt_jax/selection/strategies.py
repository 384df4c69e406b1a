"""Strategies: which masks a decision scores, and what their scores choose (paper, Algorithms 1 and 2).

A strategy for an edge's operation is a row of `STRATEGIES`, a rule for a node's inputs a row of `TOPOLOGIES`. The choice
follows from the scores alone, so that it can be made again from a record of them.
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
    """The candidate to keep: the one whose removal hurts most; of equal ones the first, as in the reference code.

    Args:
      harms: how much each removal hurts, [K] (`Criterion.harms`).
      eligible: positions that may be chosen.

    Returns:
      The chosen position, and its margin over the next eligible one in units of the criterion.
    """
    harm = harms[list(eligible)]
    rest = np.delete(harm, harm.argmax())
    margin = (harm.max() - rest.max()).item() if rest.size else 0
    return list(eligible)[int(harm.argmax())], margin


def least_harmful(harms: np.ndarray) -> tuple[int, float]:
    """The edge to drop: the one whose removal hurts least; of equal ones the last. Position and margin."""
    position = len(harms) - 1 - int(harms[::-1].argmin())
    return position, (np.delete(harms, position).min() - harms[position]).item()


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How the operation of an edge is decided.

    Attributes:
      name: the value of `select.strategy`.
      masks: `masks(space, kind, edge)`, float32 [O, E, O], one for each candidate of the edge.
      choose: `choose(harms [O], eligible)`, the position of the candidate that is kept, and its margin.
    """

    name: str
    masks: Callable[[SearchSpace, str, int], np.ndarray]
    choose: Callable[[np.ndarray, Sequence[int]], tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Topology:
    """How the inputs of a node are decided: edges are dropped one by one, each time the least harmful.

    Attributes:
      name: the value of `select.topology`.
      rescores: whether the remaining edges are scored anew before each elimination; eliminated edges stand at full
        weight in later passes. Else all edges are scored once.
    """

    name: str
    rescores: bool


LEAVE_ONE_OUT = Strategy("leave_one_out", without_operations, most_harmful)

STRATEGIES = {strategy.name: strategy for strategy in (LEAVE_ONE_OUT,)}
"""Strategies by the value of `select.strategy`."""

TOPOLOGIES = {
    topology.name: topology for topology in (Topology("leave_one_out", True), Topology("single_ranking", False))
}
"""Rules by the value of `select.topology`: leave_one_out is the code's, single_ranking that of Algorithm 2."""

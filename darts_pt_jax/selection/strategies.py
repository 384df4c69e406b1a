"""Strategies: which masks a decision scores, and how the scores choose (paper, Algorithms 1 and 2).

A row of `STRATEGIES` decides the operation of an edge, a row of `TOPOLOGIES` the inputs of a node. The choice depends only
on the scores, so that it can be repeated from their record.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from darts_pt_jax.spaces import SearchSpace


def without_operations(space: SearchSpace, kind: str, edge: int) -> np.ndarray:
    """float32 masks [O, E, O], one for each candidate of an edge: the candidate's entry is 0, all others are 1."""
    graph = space.cells[kind]
    masks = np.ones((len(graph.edges[edge].candidates), len(graph.edges), graph.width), np.float32)
    for o in range(len(masks)):
        masks[o, edge, o] = 0
    return masks


def single_operations(space: SearchSpace, kind: str, edge: int) -> np.ndarray:
    """float32 masks [O, E, O], one for each candidate of an edge: all other entries of the edge's row are 0."""
    masks = without_operations(space, kind, edge)
    masks[:, edge] = 1 - masks[:, edge]
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
      masks: `masks(space, kind, edge)` gives float32 masks [O, E, O], one for each candidate of the edge; None: no masks are
        scored, and the slopes of the loss in the edge weights decide (`slopes.make_slopes`).
      rule: what is done and which operation is kept, for the report page; it may use {images} and {noun} (of the criterion).
      keeps: whether a mask leaves its candidate alone on the edge, so that the least harmful mask decides; otherwise a mask
        removes its candidate, and the most harmful one decides.
      tried: what happens to a candidate under its mask, such as "removed".
      after: words for the scores under the masks.
      decided: words for the score that decided.
    """

    name: str
    masks: Callable[[SearchSpace, str, int], np.ndarray] | None
    rule: str
    keeps: bool = False
    tried: str = "removed"
    after: str = "after each removal"
    decided: str = "after the removal that decided"

    def worth(self, harms: np.ndarray) -> np.ndarray:
        """How much speaks for each candidate, [O], from how much its mask hurts."""
        return -harms if self.keeps else harms

    def choose(self, harms: np.ndarray, eligible: Sequence[int]) -> tuple[int, float]:
        """The position of the candidate to keep, and its margin over the next, from harms [O]."""
        return most_harmful(self.worth(harms), eligible)


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


LEAVE_ONE_OUT = Strategy(
    "leave_one_out",
    without_operations,
    "Each candidate is removed in turn and the supernet is looked at again, on the same {images:,} images. "
    "The operation whose removal costs most {noun} is kept",
)

STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        LEAVE_ONE_OUT,
        Strategy(
            "keep_one",
            single_operations,
            "Each candidate is left alone on its edge in turn and the supernet is looked at again, on the same {images:,} "
            "images. The operation that costs least {noun} is kept",
            keeps=True,
            tried="left alone",
            after="with each operation alone",
            decided="with the operation chosen",
        ),
        Strategy(
            "first_order",
            None,
            "One backward pass over {images:,} images gives the slope of the loss in the weight of every candidate. The "
            "operation with the largest |w dL/dw|, a first-order estimate of what its removal changes, is kept",
        ),
    )
}
"""Strategies by the value of `select.strategy`. keep_one is the discretisation accuracy of an edge without tuning (paper,
section 3.1)."""


def strategy_of(record: Mapping) -> Strategy:
    """The strategy of a recorded decision; the inputs of a node are always chosen by removals."""
    return STRATEGIES[record.get("strategy", LEAVE_ONE_OUT.name)]


TOPOLOGIES = {
    topology.name: topology for topology in (Topology("leave_one_out", True), Topology("single_ranking", False))
}
"""Rules by the value of `select.topology`: leave_one_out as in the reference code, single_ranking as in Algorithm 2."""

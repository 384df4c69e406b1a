"""The order in which selection decides edges and nodes, and the decisions between two tunings (paper, A.3)."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from darts_pt_jax.spaces import SearchSpace


@dataclasses.dataclass(frozen=True)
class Target:
    """The subject of a decision: the operation of an edge (type "operation") or the inputs of a node ("topology").

    Attributes:
      type: "operation" or "topology".
      kind: the cell kind.
      number: number of the edge, or state of the node.
    """

    type: str
    kind: str
    number: int


ORDERS = ("random", "fixed", "reference")
"""Orders that are known before the first decision."""

MEASURED = ("certain", "important")
"""Orders in which scores choose the next edge. Of such a run, `decision_points` "fixed" counts the decisions of a kind."""


def parse_order(text: str, space: SearchSpace) -> dict[str, list[int]]:
    """Reads an explicit order of edges such as "normal:4,0,5,2,3,1" or "normal:3,1,...;reduce:0,2,...".

    Raises:
      ValueError: a kind is missing or unknown, or its edges are not a permutation of all edges.
    """
    order = {}
    for part in text.split(";"):
        kind, colon, edges = part.partition(":")
        if kind not in space.cells or not colon:
            raise ValueError(
                f"got {part!r}, expected {' or '.join(ORDERS + MEASURED)}, or KIND:EDGE,EDGE,... of {', '.join(space.cells)}"
            )
        try:
            order[kind] = [int(e) for e in edges.split(",")]
        except ValueError:
            raise ValueError(f"got {part!r}, expected edge numbers after the colon") from None
        if sorted(order[kind]) != list(range(len(space.cells[kind].edges))):
            raise ValueError(f"got {part!r}, expected every edge of 0 to {len(space.cells[kind].edges) - 1} once")
    if missing := [kind for kind in space.cells if kind not in order]:
        raise ValueError(f"got {text!r}, which says nothing of {', '.join(missing)}")
    return order


def _drawn(lists: dict[str, list[int]], draw) -> dict[str, list[int]]:
    """Random orders of all kinds: the kinds take turns, one draw each, as in the reference code."""
    remaining = {kind: list(numbers) for kind, numbers in lists.items()}
    order: dict[str, list[int]] = {kind: [] for kind in lists}
    while any(remaining.values()):
        for kind, numbers in remaining.items():
            if numbers:
                order[kind].append(draw(numbers))
                numbers.remove(order[kind][-1])
    return order


def decision_points(space: SearchSpace, order: str, pairing: str, rng: np.random.RandomState) -> list[list[Target]]:
    """All decisions, grouped by decision point: operations first, then topology.

    Args:
      space: the search space.
      order: "random" draws from `rng`; "reference" draws as the reference code does if `rng` starts from the run's seed;
        "fixed" is ascending; a text that `parse_order` reads orders the edges, with nodes ascending.
      pairing: "both" puts one decision of every cell kind at a point, "single" only one decision.
      rng: source of random orders.
    """
    edges = {kind: list(range(len(graph.edges))) for kind, graph in space.cells.items()}
    nodes = {kind: list(space.choosable_nodes(kind)) for kind in space.cells}
    points: list[list[Target]] = []
    for type_, numbers in (("operation", edges), ("topology", nodes)):
        if order == "reference":
            ordered = _drawn(numbers, rng.choice)
        elif order == "random":
            ordered = {kind: rng.permutation(n).tolist() for kind, n in numbers.items()}
        elif order == "fixed" or type_ == "topology":
            ordered = numbers
        else:
            ordered = parse_order(order, space)
        targets = [[Target(type_, kind, int(n)) for n in ordered[kind]] for kind in space.cells]
        rounds = [[t for t in together if t] for together in itertools.zip_longest(*targets)]
        points.extend(rounds if pairing == "both" else _one_by_one(rounds, order, rng))
    return points


def scorings(space: SearchSpace, order: str) -> int:
    """How many scorings a selection by perturbation makes, at most: for edges, and for every input that is dropped.

    For each decision on an edge, the order "certain" scores all open edges of the kind; "important" scores the removal of
    the edges, and then the next edge; any other only that.
    """
    counts = [len(graph.edges) for graph in space.cells.values()]
    edges = sum({"certain": n * (n + 1) // 2, "important": 2 * n}.get(order, n) for n in counts)
    nodes = [(graph, node) for kind, graph in space.cells.items() for node in space.choosable_nodes(kind)]
    return edges + sum(len(graph.incoming(node)) - (space.inputs_per_node or 0) for graph, node in nodes)


def _one_by_one(rounds: Sequence[list[Target]], order: str, rng: np.random.RandomState) -> list[list[Target]]:
    flat = [[target] for together in rounds for target in together]
    return [flat[i] for i in rng.permutation(len(flat))] if order == "random" else flat

"""Budgets: limits on what the discrete network costs, kept by the cheapest completion of what is undecided.

The cost of a network is a constant plus a sum over the edges that it keeps (`network.Costs`), so the nodes can be completed
apart. With several costs there may be several cheapest completions, of which none is at most another in every cost. A
choice is ruled out if no completion after it stays within all limits; so a selection that starts within them ends so.

This module does not import jax, so that records can be read without jax.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from darts_pt_jax.spaces import UNDECIDED, SearchSpace

Point = tuple[int, ...]
"""A number for each cost."""

Rows = Mapping[str, np.ndarray]
"""[E] by cell kind: the operations or the edges kept of `architecture.Decisions`, as NumPy arrays."""


def cheapest(points: Iterable[Point]) -> list[Point]:
    """The points that no other one undercuts: none is at most as large in every cost."""
    found: list[Point] = []
    for point in sorted(set(points)):
        if not any(_within(other, point) for other in found):
            found.append(point)
    return found


def _within(point: Point, limits: Point) -> bool:
    return all(a <= b for a, b in zip(point, limits, strict=True))


def _sums(one: Sequence[Point], other: Sequence[Point]) -> list[Point]:
    """The cheapest sums of two points."""
    pairs = itertools.product(one, other)
    return cheapest(tuple(a + b for a, b in zip(*pair, strict=True)) for pair in pairs)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits on the discrete networks of a space.

    Attributes:
      space: the search space.
      limits: the largest value of every cost, [L].
      fixed: the costs of what depends on no choice, [L].
      costs: the costs of every candidate, int [E, O, L] by cell kind.
      barred: operations that the selection never chooses.
      prunes: whether a decided edge stays, and its node prunes the others (SGAS); otherwise a node may drop it.
    """

    space: SearchSpace
    limits: Point
    fixed: Point
    costs: Mapping[str, np.ndarray]
    barred: Sequence[str] = ()
    prunes: bool = False

    @functools.cached_property
    def _allowed(self) -> dict[str, list[list[int]]]:
        """The positions that may be chosen on each edge, by cell kind."""
        return {
            kind: [np.flatnonzero(row).tolist() for row in graph.without(self.barred)]
            for kind, graph in self.space.cells.items()
        }

    def completions(self, operations: Rows, kept: Rows) -> list[Point]:
        """The costs of the cheapest networks that decisions leave possible."""
        nodes = [
            self._node(kind, state, operations[kind], kept[kind])
            for kind, graph in self.space.cells.items()
            for state in graph.node_states
        ]
        return functools.reduce(_sums, nodes, [self.fixed])

    def _node(self, kind: str, state: int, operations: np.ndarray, kept: np.ndarray) -> list[Point]:
        """The costs of the cheapest inputs of a node."""
        edges, ways = [e for e in self.space.cells[kind].incoming(state) if kept[e]], {}
        for e in edges:
            candidates = self._allowed[kind][e] if operations[e] == UNDECIDED else [operations[e]]
            ways[e] = cheapest(tuple(self.costs[kind][e, o].tolist()) for o in candidates)
        staying = {e for e in edges if self.prunes and operations[e] != UNDECIDED}
        sets = [inputs for inputs in self.space.input_sets(edges) if staying <= set(inputs)]
        nothing = [(0,) * len(self.limits)]
        return cheapest(p for inputs in sets for p in functools.reduce(_sums, (ways[e] for e in inputs), nothing))

    def fits(self, operations: Rows, kept: Rows) -> bool:
        """Whether decisions leave a network within the limits."""
        return any(_within(point, self.limits) for point in self.completions(operations, kept))

    def ruled_out(self, operations: Rows, kept: Rows, kind: str, edge: int) -> list[int]:
        """The positions of an edge's candidates, but barred ones, that leave no network within the limits."""
        allowed = self._allowed[kind][edge]
        return [o for o in allowed if not self.fits(_changed(operations, kind, [edge], o), kept)]

    def closed(self, operations: Rows, kept: Rows, kind: str) -> np.ndarray:
        """bool [E]: the undecided edges all of whose candidates are ruled out."""
        open_edges = np.flatnonzero((operations[kind] == UNDECIDED) & kept[kind]).tolist()
        closed = np.zeros(len(kept[kind]), bool)
        for edge in open_edges:
            closed[edge] = self.ruled_out(operations, kept, kind, edge) == self._allowed[kind][edge]
        return closed

    def ruled_out_inputs(self, operations: Rows, kept: Rows, kind: str, state: int) -> list[list[int]]:
        """The sets of inputs, as edges, that a node cannot keep within the limits."""
        edges = self.space.cells[kind].incoming(state)
        found = []
        for inputs in self.space.input_sets(edges):
            dropped = [e for e in edges if e not in inputs]
            if not self.fits(operations, _changed(kept, kind, dropped, False)):
                found.append(list(inputs))
        return found


def nothing_decided(space: SearchSpace) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The operations, all undecided, and the edges kept, all of them."""
    edges = {kind: len(graph.edges) for kind, graph in space.cells.items()}
    operations = {kind: np.full(count, UNDECIDED) for kind, count in edges.items()}
    return operations, {kind: np.ones(count, bool) for kind, count in edges.items()}


def _changed(rows: Rows, kind: str, edges: Sequence[int], value: int | bool) -> Rows:
    """The rows with another value at some edges."""
    row = rows[kind].copy()
    row[list(edges)] = value
    return {**rows, kind: row}

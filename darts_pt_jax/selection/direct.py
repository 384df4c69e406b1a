"""Selectors that need no images: magnitude, and the random baseline."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from darts_pt_jax.spaces import SearchSpace

VALUES = {
    "edge_weights": "weight",
    "strength": "weight",
    "first_order": "|w dL/dw|",
    "shapley": "Shapley value",
    "fisher": "1 / information",
}
"""What decides where no masks are scored: titles by keys of records."""


class Choice(NamedTuple):
    """A choice for every edge of a space.

    Attributes:
      operations: int [E] by cell kind, position of the chosen candidate.
      kept: bool [E] by cell kind, whether the edge stays.
    """

    operations: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]


def eligible_weights(
    space: SearchSpace, kind: str, weights: np.ndarray, barred: Sequence[str] | None = None
) -> np.ndarray:
    """Edge weights [E, O], -inf where there is no candidate or a `barred` one (default: `magnitude_ignores`)."""
    barred = space.magnitude_ignores if barred is None else barred
    return np.where(space.cells[kind].without(barred), weights, -np.inf)


def strongest(space: SearchSpace, edges: Sequence[int], strength: np.ndarray) -> list[int]:
    """The `inputs_per_node` strongest of a node's `edges`, by `strength` [E], ascending; the first of equal ones."""
    order = np.argsort(-strength[list(edges)], kind="stable")[: space.inputs_per_node]
    return sorted(int(edges[i]) for i in order)


def magnitude(space: SearchSpace, weights: Mapping[str, np.ndarray], rng: np.random.RandomState) -> Choice:
    """Keeps the operation with the largest weight on every edge, and the strongest edges at every node (DARTS, 2.4)."""
    operations, kept = {}, {}
    for kind, graph in space.cells.items():
        allowed = eligible_weights(space, kind, weights[kind])
        operations[kind], strength = allowed.argmax(-1), allowed.max(-1)
        kept[kind] = np.ones(len(graph.edges), bool)
        for node in space.choosable_nodes(kind):
            edges = graph.incoming(node)
            kept[kind][np.setdiff1d(edges, strongest(space, edges, strength))] = False
    return Choice(operations, kept)


def random(space: SearchSpace, weights: Mapping[str, np.ndarray], rng: np.random.RandomState) -> Choice:
    """Draws operations, and the inputs of every node, uniformly; never an operation of `magnitude_ignores`."""
    operations, kept = {}, {}
    for kind, graph in space.cells.items():
        allowed = graph.without(space.magnitude_ignores)
        operations[kind] = np.array([rng.choice(np.flatnonzero(row)) for row in allowed])
        kept[kind] = np.ones(len(graph.edges), bool)
        for node in space.choosable_nodes(kind):
            edges = np.array(graph.incoming(node))
            surplus = len(edges) - (space.inputs_per_node or 0)
            kept[kind][rng.choice(edges, surplus, replace=False)] = False
    return Choice(operations, kept)


def records(
    space: SearchSpace, weights: Mapping[str, np.ndarray], choice: Choice, name: str = "edge_weights"
) -> Iterator[dict]:
    """A record of each decision in a choice that a selector made from `weights`; `name` as in `operation_record`."""
    for kind, graph in space.cells.items():
        for edge in range(len(graph.edges)):
            chosen = int(choice.operations[kind][edge])
            yield operation_record(space, kind, edge, weights[kind], chosen, name=name)
        strength = eligible_weights(space, kind, weights[kind]).max(-1)
        for state in space.choosable_nodes(kind):
            keep = [e for e in graph.incoming(state) if choice.kept[kind][e]]
            yield topology_record(space, kind, state, strength, keep, "strength" if name == "edge_weights" else name)


def operation_record(
    space: SearchSpace,
    kind: str,
    edge: int,
    weights: np.ndarray,
    choice: int | None = None,
    barred: Sequence[str] | None = None,
    name: str = "edge_weights",
) -> dict:
    """A record of the choice of one candidate, from edge weights [E, O]; by default the candidate of the largest weight.

    It holds plain values, for `Decisions.apply`. `barred` goes to `eligible_weights`. Other values may take the place of
    the weights; `name`, a key of `VALUES`, says what they are.
    """
    candidates = space.cells[kind].edges[edge].candidates
    allowed = eligible_weights(space, kind, weights, barred)[edge]
    choice = int(allowed.argmax()) if choice is None else choice
    return {
        "type": "operation", "kind": kind, "edge": edge, "candidates": candidates,
        "eligible": np.flatnonzero(np.isfinite(allowed)).tolist(),
        name: weights[edge][: len(candidates)].tolist(),
        "choice": candidates[choice], "choice_index": choice, "margin": _lead(allowed, choice),
    }  # fmt: skip


def topology_record(
    space: SearchSpace, kind: str, state: int, strength: np.ndarray, keep: Sequence[int], name: str = "strength"
) -> dict:  # fmt: skip
    """A record of the choice of the inputs `keep` for node `state`, from `strength` [E]; for `Decisions.apply`.

    `name`, a key of `VALUES`, says what the strength of an edge is.
    """
    graph = space.cells[kind]
    edges = graph.incoming(state)
    dropped = [e for e in edges if e not in keep]
    return {
        "type": "topology", "kind": kind, "node": state - graph.inputs, "edges": list(edges),
        name: strength[list(edges)].tolist(), "choice": list(keep),
        "margin": (strength[list(keep)].min() - strength[dropped].max()).item(),
    }  # fmt: skip


def values_of(record: Mapping) -> tuple[str, list[float]]:
    """The title and the values by which a recorded decision was taken where no masks were scored; none of a draw."""
    return next(((title, record[name]) for name, title in VALUES.items() if name in record), ("weight", []))


def _lead(values: np.ndarray, index: int) -> float:
    """By how much one value exceeds the largest other value; 0 if there is no other."""
    rest = np.delete(values, index)
    return (values[index] - rest.max()).item() if np.isfinite(rest).any() else 0.0

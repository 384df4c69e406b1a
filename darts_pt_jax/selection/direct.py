"""Selectors that need no images: magnitude, and the random baseline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from darts_pt_jax.selection.budgets import Budget, nothing_decided
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


def strongest(
    space: SearchSpace, edges: Sequence[int], strength: np.ndarray, ruled_out: Sequence[Sequence[int]] = ()
) -> list[int]:
    """The `inputs_per_node` strongest of a node's `edges`, by `strength` [E], ascending; the first of equal ones.

    Where a limit has `ruled_out` these, the weakest of them gives way first.
    """
    order = [edges[i] for i in np.argsort(-strength[list(edges)], kind="stable")]
    sets = (sorted(map(int, inputs)) for inputs in space.input_sets(order))
    return next(inputs for inputs in sets if inputs not in ruled_out)


def magnitude(
    space: SearchSpace, weights: Mapping[str, np.ndarray], rng: np.random.RandomState, budget: Budget | None = None
) -> Choice:
    """Keeps the operation with the largest weight on every edge, and the strongest edges at every node (DARTS, 2.4)."""
    allowed = {kind: eligible_weights(space, kind, weights[kind]) for kind in space.cells}

    def operation(kind: str, edge: int, ruled_out: Sequence[int]) -> int:
        row = allowed[kind][edge].copy()
        row[list(ruled_out)] = -np.inf
        return int(row.argmax())

    def inputs(kind: str, edges: Sequence[int], operations: np.ndarray, ruled_out: Sequence[Sequence[int]]):
        return strongest(space, edges, allowed[kind][np.arange(len(operations)), operations], ruled_out)

    return _edge_by_edge(space, budget, operation, inputs)


def random(
    space: SearchSpace, weights: Mapping[str, np.ndarray], rng: np.random.RandomState, budget: Budget | None = None
) -> Choice:
    """Draws operations, and the inputs of every node, uniformly; never an operation of `magnitude_ignores`."""
    allowed = {kind: graph.without(space.magnitude_ignores) for kind, graph in space.cells.items()}

    def operation(kind: str, edge: int, ruled_out: Sequence[int]) -> int:
        return rng.choice([o for o in np.flatnonzero(allowed[kind][edge]) if o not in ruled_out])

    def inputs(kind: str, edges: Sequence[int], operations: np.ndarray, ruled_out: Sequence[Sequence[int]]):
        surplus = len(edges) - (space.inputs_per_node or 0)
        while True:
            dropped = rng.choice(np.array(edges), surplus, replace=False)
            keep = [e for e in edges if e not in dropped]
            if keep not in ruled_out:
                return keep

    return _edge_by_edge(space, budget, operation, inputs)


def _edge_by_edge(
    space: SearchSpace, budget: Budget | None, operation: Callable[..., int], inputs: Callable[..., Sequence[int]]
) -> Choice:
    """Decides kind after kind: its edges, then its nodes.

    Args:
      space: the search space.
      budget: rules out what does not fit, if anything does.
      operation: `operation(kind, edge, ruled_out)` chooses a position.
      inputs: `inputs(kind, edges, operations, ruled_out)` chooses the edges that a node keeps.
    """
    choice = Choice(*nothing_decided(space))
    for kind, graph in space.cells.items():
        operations, kept = choice.operations[kind], choice.kept[kind]
        for edge in range(len(graph.edges)):
            operations[edge] = operation(kind, edge, budget.ruled_out(*choice, kind, edge) if budget else ())
        for node in space.choosable_nodes(kind):
            edges = graph.incoming(node)
            keep = inputs(kind, edges, operations, budget.ruled_out_inputs(*choice, kind, node) if budget else ())
            kept[[e for e in edges if e not in keep]] = False
    return choice


def records(
    space: SearchSpace, weights: Mapping[str, np.ndarray], choice: Choice, name: str = "edge_weights",
    budget: Budget | None = None, freely: Choice | None = None,
) -> Iterator[dict]:  # fmt: skip
    """A record of each decision in a choice that a selector made from `weights`; `name` as in `operation_record`.

    `freely` is what it chooses without the budget.
    """
    taken = Choice(*nothing_decided(space))
    for kind, graph in space.cells.items():
        left = eligible_weights(space, kind, weights[kind])
        for edge in range(len(graph.edges)):
            chosen = int(choice.operations[kind][edge])
            ruled_out = budget.ruled_out(*taken, kind, edge) if budget else ()
            left[edge, list(ruled_out)] = -np.inf
            free = None if freely is None else int(freely.operations[kind][edge])
            yield operation_record(
                space, kind, edge, weights[kind], chosen, name=name, ruled_out=ruled_out, freely=free
            )
            taken.operations[kind][edge] = chosen
        strength = left.max(-1)
        for state in space.choosable_nodes(kind):
            edges = graph.incoming(state)
            keep, free_keep = ([e for e in edges if one.kept[kind][e]] for one in (choice, freely or choice))
            ruled_inputs = budget.ruled_out_inputs(*taken, kind, state) if budget else ()
            measure = "strength" if name == "edge_weights" else name
            yield topology_record(space, kind, state, strength, keep, measure, ruled_inputs, free_keep)
            taken.kept[kind][[e for e in edges if e not in keep]] = False


def operation_record(
    space: SearchSpace,
    kind: str,
    edge: int,
    weights: np.ndarray,
    choice: int | None = None,
    barred: Sequence[str] | None = None,
    name: str = "edge_weights",
    ruled_out: Sequence[int] = (),
    freely: int | None = None,
) -> dict:
    """A record of the choice of one candidate, from edge weights [E, O]; by default the candidate of the largest weight.

    It holds plain values, for `Decisions.apply`. `barred` goes to `eligible_weights`. Other values may take the place of
    the weights; `name`, a key of `VALUES`, says what they are. A limit has `ruled_out` positions; `freely` is the choice
    without it.
    """
    candidates = space.cells[kind].edges[edge].candidates
    allowed = eligible_weights(space, kind, weights, barred)[edge]
    freely = int(allowed.argmax()) if freely is None else freely
    allowed[list(ruled_out)] = -np.inf
    choice = int(allowed.argmax()) if choice is None else choice
    limited: dict[str, Any] = {"ruled_out": list(ruled_out)} if ruled_out else {}
    if freely in ruled_out:
        limited["without_limit"] = candidates[freely]
    return {
        "type": "operation", "kind": kind, "edge": edge, "candidates": candidates,
        "eligible": np.flatnonzero(np.isfinite(allowed)).tolist(),
        name: weights[edge][: len(candidates)].tolist(), **limited,
        "choice": candidates[choice], "choice_index": choice, "margin": _lead(allowed, choice),
    }  # fmt: skip


def topology_record(
    space: SearchSpace, kind: str, state: int, strength: np.ndarray, keep: Sequence[int], name: str = "strength",
    ruled_out: Sequence[Sequence[int]] = (), freely: Sequence[int] = (),
) -> dict:  # fmt: skip
    """A record of the choice of the inputs `keep` for node `state`, from `strength` [E]; for `Decisions.apply`.

    `name`, a key of `VALUES`, says what the strength of an edge is. A limit has `ruled_out` sets of inputs; `freely` is
    the choice without it.
    """
    graph = space.cells[kind]
    edges = graph.incoming(state)
    dropped = [e for e in edges if e not in keep]
    limited: dict[str, Any] = {"ruled_out": list(ruled_out)} if ruled_out else {}
    if list(freely) in limited.get("ruled_out", ()):
        limited["without_limit"] = list(freely)
    return {
        "type": "topology", "kind": kind, "node": state - graph.inputs, "edges": list(edges),
        name: strength[list(edges)].tolist(), **limited, "choice": list(keep),
        "margin": (strength[list(keep)].min() - strength[dropped].max()).item(),
    }  # fmt: skip


def values_of(record: Mapping) -> tuple[str, list[float]]:
    """The title and the values by which a recorded decision was taken where no masks were scored; none of a draw."""
    return next(((title, record[name]) for name, title in VALUES.items() if name in record), ("weight", []))


def _lead(values: np.ndarray, index: int) -> float:
    """By how much one value exceeds the largest other value; 0 if there is no other."""
    rest = np.delete(values, index)
    return (values[index] - rest.max()).item() if np.isfinite(rest).any() else 0.0

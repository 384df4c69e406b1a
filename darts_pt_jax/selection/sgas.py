"""Sequential greedy selection (SGAS: Li et al., 2020; paper, A.1.3): the next edge to decide, and the edges pruned then.

SGAS decides the edge that has the least weight on "none", the clearest preference among the other operations and, with
criterion 2, the least change lately. A mixture is the softmax [E, O] of the alphas of one cell kind.
"""

import math
from collections.abc import Sequence

import numpy as np

from darts_pt_jax.architecture import Decisions
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.spaces import CellGraph, SearchSpace

CRITERIA = (1, 2)
HISTORY = 4
"""Number of earlier epochs that the stability covers."""


def unfit(space: SearchSpace) -> str | None:
    """Why SGAS cannot measure the edges of a space, or None: every edge needs "none" and two other candidates."""
    for kind, graph in space.cells.items():
        for e, edge in enumerate(graph.edges):
            if "none" not in edge.candidates:
                return f"{kind} edge {e} has no candidate 'none', which edge importance is measured by"
            if len(edge.candidates) < 3:
                return f"{kind} edge {e} has fewer than two candidates besides 'none'"
    return None


def decision_points(space: SearchSpace) -> list[list[Target]]:
    """The decisions, grouped by decision point: one edge of every kind that has any left.

    The edge is not known in advance; `Target.number` counts the decisions of a kind.
    """
    counts = {}
    for kind, graph in space.cells.items():
        kept = space.inputs_per_node or len(graph.edges)
        counts[kind] = sum(min(kept, len(graph.incoming(state))) for state in graph.node_states)
    return [
        [Target("operation", kind, n) for kind, count in counts.items() if n < count]
        for n in range(max(counts.values()))
    ]


def conditional(graph: CellGraph, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edge importance [E], which is 1 minus the weight of "none", and the distribution [E, O] of the other operations."""
    others = graph.without(["none"])
    importance = np.where(others, mixture, 0).sum(-1)
    return importance, np.where(others, mixture, 0) / importance[:, None]


def criterion(
    graph: CellGraph, mixture: np.ndarray, history: Sequence[np.ndarray], number: int
) -> dict[str, np.ndarray]:
    """The values that choose the next edge, [E] each.

    Args:
      graph: the graph of the cell kind.
      mixture: its mixture [E, O] now; decided edges have the mixture of their decision.
      history: mixtures of the epochs before, the last `HISTORY` of which count.
      number: 1 multiplies importance and certainty, 2 stability too.

    Returns:
      "importance", "certainty" (1 minus the entropy over its maximum), "stability" (the mean histogram intersection with
      the history; 0 without history), and "score", their product, each factor scaled to [0, 1] over all edges.
    """
    importance, now = conditional(graph, mixture)
    count = graph.without(["none"]).sum(-1)
    entropy = -np.sum(now * np.log(np.where(now > 0, now, 1)), -1)
    certainty = 1 - entropy / np.log(count)
    shared = [np.minimum(now, conditional(graph, before)[1]).sum(-1) for before in history[-HISTORY:]]
    stability = np.mean(shared, 0) if shared else np.zeros(len(graph.edges))
    factors = {"importance": importance, "certainty": certainty, "stability": stability}
    score = math.prod(_scaled(factors[name]) for name in list(factors)[: number + 1])
    return {**factors, "score": score}


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scales values to [0, 1] by their minimum and maximum; all become 0 if these are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def next_edge(decisions: Decisions, kind: str, score: np.ndarray) -> int:
    """The open edge with the largest score; of equal ones the first."""
    return int(np.where(np.asarray(decisions.open(kind)), score, -np.inf).argmax())


def pruned(space: SearchSpace, decisions: Decisions, kind: str, edge: int) -> list[int]:
    """The open edges of the node where a decided edge ends, if the node now has all inputs that it keeps; else none."""
    graph = space.cells[kind]
    incoming, is_open = graph.incoming(graph.edges[edge].target), np.asarray(decisions.open(kind))
    left = [e for e in incoming if is_open[e]]
    return left if len(incoming) - len(left) == space.inputs_per_node else []

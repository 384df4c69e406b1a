"""Sequential greedy selection (SGAS: Li et al., 2020; paper, A.1.3): which edge is decided next, and what is pruned then.

An edge is the more worth deciding the less its alphas weigh "none", the surer they are of one of the other operations,
and, by criterion 2, the less they have changed. Mixtures are softmaxes of alphas [E, O] of one cell kind.
"""

import math
from collections.abc import Sequence

import numpy as np

from darts_pt_jax.architecture import Decisions
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.spaces import CellGraph, SearchSpace

CRITERIA = (1, 2)
HISTORY = 4
"""Earlier epochs whose mixtures the stability is taken over."""


def unfit(space: SearchSpace) -> str | None:
    """Why a space has no edge importance or selection certainty, or None: every edge needs "none" and two others."""
    for kind, graph in space.cells.items():
        for e, edge in enumerate(graph.edges):
            if "none" not in edge.candidates:
                return f"{kind} edge {e} has no candidate 'none', which edge importance is measured by"
            if len(edge.candidates) < 3:
                return f"{kind} edge {e} has fewer than two candidates besides 'none'"
    return None


def decision_points(space: SearchSpace) -> list[list[Target]]:
    """The decisions, grouped by the points at which they are taken: one edge of every kind that has any left.

    Which edge shows when it is decided; `Target.number` counts a kind's decisions.
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
    """Edge importance [E], 1 less the weight of "none", and the distribution [E, O] over the other operations."""
    others = graph.without(["none"])
    importance = np.where(others, mixture, 0).sum(-1)
    return importance, np.where(others, mixture, 0) / importance[:, None]


def criterion(
    graph: CellGraph, mixture: np.ndarray, history: Sequence[np.ndarray], number: int
) -> dict[str, np.ndarray]:
    """What the next edge is chosen by, [E] each.

    Args:
      graph: of the cell kind.
      mixture: its softmax of alphas now, decided edges as they were when they were decided.
      history: the mixtures of up to `HISTORY` epochs before.
      number: 1 multiplies importance and certainty, 2 stability too.

    Returns:
      "importance", "certainty" (1 less the entropy over its maximum), "stability" (the mean histogram intersection with
      the history; 0 without one), and their product "score", each factor scaled to [0, 1] over all edges.
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
    """To [0, 1], by the least and the largest; all 0 where these are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def next_edge(decisions: Decisions, kind: str, score: np.ndarray) -> int:
    """The open edge with the largest score; of equal ones the first."""
    return int(np.where(np.asarray(decisions.open(kind)), score, -np.inf).argmax())


def pruned(space: SearchSpace, decisions: Decisions, kind: str, edge: int) -> list[int]:
    """The open edges of the node in which a decided edge ends, if it has all inputs that it keeps now; else none."""
    graph = space.cells[kind]
    incoming, is_open = graph.incoming(graph.edges[edge].target), np.asarray(decisions.open(kind))
    left = [e for e in incoming if is_open[e]]
    return left if len(incoming) - len(left) == space.inputs_per_node else []

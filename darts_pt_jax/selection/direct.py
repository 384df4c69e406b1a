"""Selectors that read the architecture off without looking at an image: magnitude, and the random baseline."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from darts_pt_jax.architecture import Decisions, undecided
from darts_pt_jax.spaces import SearchSpace


def _strongest(values: np.ndarray, keep: int) -> np.ndarray:
    """Positions of the `keep` largest values; of equal ones the first."""
    return np.argsort(-values, kind="stable")[:keep]


def eligible_weights(space: SearchSpace, kind: str, weights: np.ndarray) -> np.ndarray:
    """Edge weights [E, O] with -inf where there is no candidate, or one of `magnitude_ignores`."""
    return np.where(space.cells[kind].without(space.magnitude_ignores), weights, -np.inf)


def magnitude(space: SearchSpace, weights: Mapping[str, np.ndarray], rng: np.random.RandomState) -> Decisions:
    """The operation with the largest weight on every edge, the edges with the largest weight at every node (DARTS, 2.4)."""
    decisions = undecided(space)
    for kind, graph in space.cells.items():
        allowed = eligible_weights(space, kind, weights[kind])
        best, strength = allowed.argmax(-1), allowed.max(-1)
        decisions = decisions.replace(operations={**decisions.operations, kind: jnp.asarray(best, jnp.int32)})
        for node in space.choosable_nodes(kind):
            edges = np.array(graph.incoming(node))
            keep = edges[_strongest(strength[edges], space.inputs_per_node)]
            decisions = decisions.remove(kind, np.setdiff1d(edges, keep))
    return decisions


def random(space: SearchSpace, weights: Mapping[str, np.ndarray], rng: np.random.RandomState) -> Decisions:
    """Uniformly random operations and, at every node, inputs; never an operation of `magnitude_ignores`."""
    decisions = undecided(space)
    for kind, graph in space.cells.items():
        allowed = graph.without(space.magnitude_ignores)
        picks = [rng.choice(np.flatnonzero(row)) for row in allowed]
        decisions = decisions.replace(operations={**decisions.operations, kind: jnp.asarray(picks, jnp.int32)})
        for node in space.choosable_nodes(kind):
            edges = np.array(graph.incoming(node))
            decisions = decisions.remove(kind, rng.choice(edges, len(edges) - space.inputs_per_node, replace=False))
    return decisions


SELECTORS = {"magnitude": magnitude, "random": random}
"""Selectors by name: `(space, weights, rng) -> Decisions`, with edge weights [E, O] by cell kind."""

"""The architecture side of the search: alphas, decisions and masks, and the edge weights they make."""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.genotype import Genotype, genotype_of
from darts_pt_jax.spaces import SearchSpace

UNDECIDED = -1

Alphas = dict[str, jax.Array]
"""float32 [E, O] by cell kind; entries without a candidate are never used."""


@flax.struct.dataclass
class Decisions:
    """What selection has fixed so far.

    Attributes:
      operations: int32 [E] by cell kind; index of the chosen candidate, or `UNDECIDED`.
      kept: bool [E] by cell kind; False once the edge is removed.
    """

    operations: dict[str, jax.Array]
    kept: dict[str, jax.Array]

    def choose(self, kind: str, edge: int, operation: int) -> "Decisions":
        """Discretises one edge to one candidate."""
        row = self.operations[kind].at[edge].set(operation)
        return self.replace(operations={**self.operations, kind: row})

    def remove(self, kind: str, edges) -> "Decisions":
        """Removes edges."""
        row = self.kept[kind].at[np.asarray(edges, int)].set(False)
        return self.replace(kept={**self.kept, kind: row})

    def open(self, kind: str) -> jax.Array:
        """bool [E]: the edges that are neither decided nor removed."""
        return (self.operations[kind] == UNDECIDED) & self.kept[kind]

    def apply(self, record: Mapping) -> "Decisions":
        """Takes a recorded decision.

        "operation" chooses `choice_index` on `edge`, and removes the edges `pruned`, if it has any; "topology" keeps
        `choice` of `edges`.
        """
        if record["type"] == "operation":
            chosen = self.choose(record["kind"], record["edge"], record["choice_index"])
            return chosen.remove(record["kind"], record.get("pruned", []))
        return self.remove(record["kind"], [e for e in record["edges"] if e not in record["choice"]])

    def to_lists(self) -> dict:
        """The decisions as a JSON value."""
        return jax.tree.map(lambda row: np.asarray(row).tolist(), {"operations": self.operations, "kept": self.kept})

    @classmethod
    def from_lists(cls, value: Mapping) -> "Decisions":
        """The inverse of `to_lists`."""
        types = {"operations": jnp.int32, "kept": bool}
        return cls(
            **{name: {k: jnp.asarray(row, type_) for k, row in value[name].items()} for name, type_ in types.items()}
        )

    def candidates(self, space: SearchSpace) -> dict[str, np.ndarray]:
        """bool [E, O] by cell kind: the candidates that can still have a weight, for `SearchSpace.restricted`."""
        operations, kept = jax.device_get((self.operations, self.kept))
        left = {}
        for kind, graph in space.cells.items():
            chosen = operations[kind][:, None]
            here = (chosen == UNDECIDED) | (chosen == np.arange(graph.width))
            left[kind] = graph.candidate_mask & here & kept[kind][:, None]
        return left

    def genotype(self, space: SearchSpace) -> Genotype:
        """The final architecture.

        Raises:
          ValueError: an edge that is kept is undecided.
        """
        operations, kept = jax.device_get((self.operations, self.kept))
        for kind in space.cells:
            open_edges = np.flatnonzero(self.open(kind))
            if open_edges.size:
                raise ValueError(f"{kind} edges {open_edges.tolist()} are undecided")
        return genotype_of(space, operations, kept)


def undecided(space: SearchSpace) -> Decisions:
    """The decisions before any is taken."""
    return Decisions(
        {kind: jnp.full(len(graph.edges), UNDECIDED, jnp.int32) for kind, graph in space.cells.items()},
        {kind: jnp.ones(len(graph.edges), bool) for kind, graph in space.cells.items()},
    )


def init_alphas(space: SearchSpace, key: jax.Array, scale: float = 1e-3) -> Alphas:
    """Alphas of N(0, scale^2) for every cell kind; scale 0 is the alpha = 0 of the paper's section 6.3."""
    keys = jax.random.split(key, len(space.cells))
    return {
        kind: scale * jax.random.normal(k, graph.candidate_mask.shape)
        for k, (kind, graph) in zip(keys, space.cells.items(), strict=True)
    }


def mixtures(space: SearchSpace, alphas: Alphas) -> dict[str, jax.Array]:
    """Softmax of the alphas [E, O] over every edge's candidates, by cell kind (DARTS, equation 2)."""
    return {
        kind: jax.nn.softmax(jnp.where(graph.candidate_mask, alphas[kind], -jnp.inf), -1)
        for kind, graph in space.cells.items()
    }


def edge_weights(space: SearchSpace, alphas: Alphas, decisions: Decisions) -> dict[str, jax.Array]:
    """Edge weights [E, O] by cell kind: an edge's mixture, one-hot where decided, zero where removed.

    Decided and removed rows pass no gradient to the alphas. Nothing is renormalised, as in the reference code.
    """
    return decided(mixtures(space, alphas), decisions)


def decided(weights: Mapping[str, jax.Array], decisions: Decisions) -> dict[str, jax.Array]:
    """Edge weights [E, O] by cell kind with the rows of `decisions` in place of what is decided or removed."""
    rows = {}
    for kind, row in weights.items():
        one_hot = jax.nn.one_hot(decisions.operations[kind], row.shape[-1])
        kept = jnp.where(decisions.kept[kind][:, None], one_hot, 0.0)
        rows[kind] = jnp.where(decisions.open(kind)[:, None], row, kept)
    return rows


def without_operations(space: SearchSpace, kind: str, edge: int) -> np.ndarray:
    """float32 masks [O, E, O], one for each candidate of an edge: the candidate's entry is 0, all others are 1."""
    graph = space.cells[kind]
    masks = np.ones((len(graph.edges[edge].candidates), len(graph.edges), graph.width), np.float32)
    for o in range(len(masks)):
        masks[o, edge, o] = 0
    return masks


def without_edges(space: SearchSpace, kind: str, edges) -> np.ndarray:
    """float32 masks [len(edges), E, O], one for each of `edges`: the edge's row is 0, all others are 1."""
    graph = space.cells[kind]
    masks = np.ones((len(edges), len(graph.edges), graph.width), np.float32)
    masks[np.arange(len(edges)), np.asarray(edges)] = 0
    return masks


def as_lists(weights: Mapping[str, jax.Array], space: SearchSpace) -> dict[str, list[list[float]]]:
    """Edge weights as plain lists, each row as long as its edge has candidates."""
    return {
        kind: [
            row[: len(edge.candidates)]
            for row, edge in zip(np.asarray(weights[kind]).tolist(), graph.edges, strict=True)
        ]
        for kind, graph in space.cells.items()
    }


def from_lists(weights: Mapping[str, list[list[float]]], space: SearchSpace) -> dict[str, np.ndarray]:
    """The inverse of `as_lists`: float32 [E, O] by cell kind, 0 where there is no candidate."""
    return {
        kind: np.array([row + [0.0] * (graph.width - len(row)) for row in weights[kind]], np.float32)
        for kind, graph in space.cells.items()
    }

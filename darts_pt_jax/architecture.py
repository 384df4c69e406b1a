"""The architecture side of the search: alphas, decisions, and the edge weights that follow from them."""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.genotype import Genotype, genotype_of
from darts_pt_jax.spaces import UNDECIDED, SearchSpace

Alphas = dict[str, jax.Array]
"""float32 [E, O] by cell kind; entries without a candidate are never used. A sampler may add columns."""

EdgeWeights = Mapping[str, jax.Array]
"""float [E, O] by cell kind; entry [e, o] multiplies candidate o of edge e in every cell of the kind."""


class Decisions(flax.struct.PyTreeNode):
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

    def on_host(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """`operations` and `kept` as NumPy arrays."""
        return jax.device_get((self.operations, self.kept))

    def open(self, kind: str) -> jax.Array:
        """bool [E]: the edges that are neither decided nor removed."""
        return (self.operations[kind] == UNDECIDED) & self.kept[kind]

    def apply(self, record: Mapping) -> "Decisions":
        """Applies a recorded decision.

        A record of type "operation" chooses `choice_index` on `edge`, and removes the edges `pruned`, if there are any. A
        record of type "topology" keeps the edges `choice` of `edges`.
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
        return chosen(value["operations"], value["kept"])

    def candidates(self, space: SearchSpace) -> dict[str, np.ndarray]:
        """bool [E, O] by cell kind: the candidates that can still have a weight, for `SearchSpace.restricted`."""
        operations, kept = self.on_host()
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
        operations, kept = self.on_host()
        for kind in space.cells:
            open_edges = np.flatnonzero(self.open(kind))
            if open_edges.size:
                raise ValueError(f"{kind} edges {open_edges.tolist()} are undecided")
        return genotype_of(space, operations, kept)


def chosen(operations: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray]) -> Decisions:
    """All decisions at once, from int [E] and bool [E] by cell kind (`selection.direct.Choice`)."""
    return Decisions(
        {kind: jnp.asarray(row, jnp.int32) for kind, row in operations.items()},
        {kind: jnp.asarray(row, bool) for kind, row in kept.items()},
    )


def undecided(space: SearchSpace) -> Decisions:
    """No decision yet: all edges are open."""
    return Decisions(
        {kind: jnp.full(len(graph.edges), UNDECIDED, jnp.int32) for kind, graph in space.cells.items()},
        {kind: jnp.ones(len(graph.edges), bool) for kind, graph in space.cells.items()},
    )


def init_alphas(space: SearchSpace, key: jax.Array, scale: float = 1e-3, more: int = 0) -> Alphas:
    """Draws alphas from N(0, scale^2) for every cell kind; scale 0 gives the alpha = 0 of the paper's section 6.3.

    `more` is a number of further columns, for a sampler.
    """
    keys = jax.random.split(key, len(space.cells))
    return {
        kind: scale * jax.random.normal(k, (len(graph.edges), graph.width + more))
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
    """Edge weights [E, O] by cell kind: `weights`, but one-hot rows for decided edges and zero rows for removed ones."""
    rows = {}
    for kind, row in weights.items():
        one_hot = jax.nn.one_hot(decisions.operations[kind], row.shape[-1])
        kept = jnp.where(decisions.kept[kind][:, None], one_hot, 0.0)
        rows[kind] = jnp.where(decisions.open(kind)[:, None], row, kept)
    return rows

"""Final architectures: which operation stands on which kept edge of every cell kind."""

import dataclasses
import json
from collections.abc import Mapping

from darts_pt_jax.spaces import SearchSpace

Node = tuple[tuple[str, int], ...]
"""A node's inputs: (operation, source state) by ascending source."""


@dataclasses.dataclass(frozen=True)
class Genotype:
    """A final architecture.

    Attributes:
      cells: the nodes of every cell kind, in order.
      outputs: states that make the cell's output, by cell kind.
    """

    cells: Mapping[str, tuple[Node, ...]]
    outputs: Mapping[str, tuple[int, ...]]

    def to_json(self) -> str:
        """JSON text; `from_json` reads it back."""
        return json.dumps({"cells": self.cells, "outputs": self.outputs})

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Reads `to_json`'s text."""
        data = json.loads(text)
        cells = {
            kind: tuple(tuple((operation, source) for operation, source in node) for node in nodes)
            for kind, nodes in data["cells"].items()
        }
        return cls(cells, {kind: tuple(states) for kind, states in data["outputs"].items()})

    def operations(self, kind: str) -> list[str]:
        """The operations of one cell kind, edge after edge."""
        return [operation for node in self.cells[kind] for operation, _ in node]

    def text(self, notation: str) -> str:
        """The architecture as the field writes it (`SearchSpace.notation`).

        "darts" gives the `Genotype(normal=[...], ...)` of the DARTS code, "nasbench201" the arch string.
        """
        return _NOTATIONS[notation](self)


def _darts(genotype: Genotype) -> str:
    parts = []
    for kind, nodes in genotype.cells.items():
        parts.append(f"{kind}={[pair for node in nodes for pair in node]}")
        parts.append(f"{kind}_concat={list(genotype.outputs[kind])}")
    return f"Genotype({', '.join(parts)})"


def _nasbench201(genotype: Genotype) -> str:
    (nodes,) = genotype.cells.values()
    return "+".join("|" + "".join(f"{operation}~{source}|" for operation, source in node) for node in nodes)


_NOTATIONS = {"darts": _darts, "nasbench201": _nasbench201}


def genotype_of(space: SearchSpace, operations: Mapping, kept: Mapping) -> Genotype:
    """The genotype of a fully decided space.

    Args:
      space: the search space.
      operations: int [E] by cell kind, the candidate's index on every edge.
      kept: bool [E] by cell kind, whether the edge stays.
    """
    cells = {}
    for kind, graph in space.cells.items():
        cells[kind] = tuple(
            tuple(
                (graph.edges[e].candidates[int(operations[kind][e])], graph.edges[e].source)
                for e in graph.incoming(node)
                if kept[kind][e]
            )
            for node in graph.node_states
        )
    return Genotype(cells, {kind: graph.outputs for kind, graph in space.cells.items()})

"""Genotypes: final architectures, that is, the operation on each kept edge of each cell kind."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from darts_pt_jax import notations
from darts_pt_jax.notations import Node, Parts
from darts_pt_jax.spaces import CellGraph, SearchSpace


@dataclasses.dataclass(frozen=True)
class Genotype:
    """A final architecture. States are numbered: first a cell's inputs, then its nodes; the last node is an output.

    Attributes:
      cells: the nodes of each cell kind, in order.
      outputs: the states that the cell's output concatenates, by cell kind.

    Raises:
      ValueError: it is malformed; the message is one line that names the place (nodes and their inputs count from 0).
    """

    cells: Mapping[str, tuple[Node, ...]]
    outputs: Mapping[str, tuple[int, ...]]

    def __post_init__(self):
        notations.check(self.cells, self.outputs)

    def __hash__(self):
        return hash(self.to_json())

    def inputs(self, kind: str) -> int:
        """The number of states that a cell of `kind` starts from."""
        return max(self.outputs[kind]) + 1 - len(self.cells[kind])

    def operations(self, kind: str) -> list[str]:
        """The operations of one cell kind, edge after edge."""
        return [operation for node in self.cells[kind] for operation, _ in node]

    @property
    def notation(self) -> str:
        """The first notation of nasbench201, darts and json that can express this architecture."""
        for notation in ("nasbench201", "darts"):
            with contextlib.suppress(ValueError):
                self.text(notation)
                return notation
        return "json"

    def to_json(self) -> str:
        """JSON text; `from_json` reads it back."""
        return notations.write_json(Parts(self.cells, self.outputs))

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Reads `to_json`'s text.

        Raises:
          ValueError: it is not the JSON of a genotype.
        """
        return cls(*notations.read_json(text))

    def text(self, notation: str) -> str:
        """The architecture in a notation of the literature (`SearchSpace.notation`); `from_text` reads it back.

        "darts" is `Genotype(normal=[...], ...)` of the DARTS code, "nasbench201" the arch string, "json" `to_json`.

        Raises:
          ValueError: the notation is unknown, or cannot express this architecture.
        """
        return notations.write(Parts(self.cells, self.outputs), notation)

    @classmethod
    def from_text(cls, text: str, name: str = "") -> "Genotype":
        """Reads what `text` writes, in any notation, and those of other codes. The text is never executed.

        Args:
          text: one of
            - a published name (`literature`), such as "DARTS_V2";
            - `Genotype(normal=[...], normal_concat=..., ...)` with two pairs (operation, source) for each node, or with a
              list of pairs for each node; also as a line of a log, as the assignments `NAME = Genotype(...)` of a
              genotypes.py, or in the JSON of CDARTS;
            - an arch string of NAS-Bench-201, `|operation~0|+|operation~0|operation~1|`, also as `Structure(3 nodes with
              ...)`; or six numbers in the order of NASLib: the operations of the edges 0-1, 0-2, 0-3, 1-2, 1-3, 2-3, where
              0 is skip_connect, 1 none, 2 nor_conv_3x3, 3 nor_conv_1x1, 4 avg_pool_3x3;
            - JSON.
          name: which one, if the text names several.

        Raises:
          ValueError: it is none of these; operations are not looked up.
        """
        return cls(*notations.read(text, name))


def example(space: SearchSpace) -> Genotype:
    """An architecture of a space: the first candidate on the first edges of every node."""
    operations = {kind: [0] * len(graph.edges) for kind, graph in space.cells.items()}
    kept = {
        kind: [e in graph.incoming(edge.target)[: space.inputs_per_node] for e, edge in enumerate(graph.edges)]
        for kind, graph in space.cells.items()
    }
    return genotype_of(space, operations, kept)


def genotype_of(space: SearchSpace, operations: Mapping, kept: Mapping) -> Genotype:
    """The genotype of a space in which every edge that stays is decided.

    Args:
      space: the search space.
      operations: int [E] by cell kind, the index of each edge's candidate.
      kept: bool [E] by cell kind, whether the edge stays.
    """

    def node(kind: str, graph: CellGraph, state: int) -> tuple[Any, ...]:
        edges = [e for e in graph.incoming(state) if kept[kind][e]]
        return tuple((graph.edges[e].candidates[int(operations[kind][e])], graph.edges[e].source) for e in edges)

    graphs = space.cells.items()
    cells = {kind: tuple(node(kind, graph, state) for state in graph.node_states) for kind, graph in graphs}
    return Genotype(cells, {kind: graph.outputs for kind, graph in graphs})

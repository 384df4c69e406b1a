"""Search spaces as tables: cell graphs, the candidates of every edge, the macro skeleton.

A `SearchSpace` value holds everything that the rest of the package needs to know about a space, so a new space is one new
value. No other module asks for a space by name.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

RESIDUAL_BLOCK = "residual_block"
"""A position of the macro skeleton that holds a fixed down-sampling residual block instead of a searched cell."""

UNDECIDED = -1
"""In the place of an operation's position: none is chosen yet."""


@dataclasses.dataclass(frozen=True)
class Edge:
    """One edge of a cell.

    Attributes:
      source, target: states (the cell's inputs first, then its nodes).
      stride: 1 or 2.
      candidates: the operations by position; an excluded one is None, so that the others keep their positions.
    """

    source: int
    target: int
    stride: int
    candidates: tuple[str | None, ...]

    @property
    def operations(self) -> tuple[tuple[int, str], ...]:
        """Position and name of each candidate that is not excluded."""
        return tuple((o, name) for o, name in enumerate(self.candidates) if name is not None)


@dataclasses.dataclass(frozen=True)
class Group:
    """The edges of a cell that leave one state with one operation at one stride.

    Attributes:
      source, operation, stride: what the edges have in common.
      edges: numbers of the edges, ascending.
      candidates: position of the operation on each edge.
    """

    source: int
    operation: str
    stride: int
    edges: tuple[int, ...]
    candidates: tuple[int, ...]

    @property
    def label(self) -> str:
        """Names the group's variables."""
        return f"from_{self.source}_{self.operation}" + ("" if self.stride == 1 else f"_stride_{self.stride}")


@dataclasses.dataclass(frozen=True)
class CellGraph:
    """The graph of one cell kind.

    Attributes:
      inputs: how many states the cell starts from. Two inputs are each preprocessed to the cell's width (ReLU, 1x1
        convolution, BatchNorm); a single input is used as it is.
      nodes: number of intermediate nodes. A node is the sum of its incoming edges.
      edges: ordered by target, then source; an edge's index in this tuple is its number everywhere.
      outputs: the states that the cell concatenates along channels.
      reduction: whether the cell doubles the channels; the strides are given by its edges.
    """

    inputs: int
    nodes: int
    edges: tuple[Edge, ...]
    outputs: tuple[int, ...]
    reduction: bool = False

    @property
    def node_states(self) -> range:
        """The states that are intermediate nodes."""
        return range(self.inputs, self.inputs + self.nodes)

    def incoming(self, state: int) -> tuple[int, ...]:
        """Numbers of the edges that end in `state`, by ascending source."""
        return tuple(i for i, edge in enumerate(self.edges) if edge.target == state)

    def state_name(self, state: int) -> str:
        """The name of a state in messages and drawings."""
        return f"input {state}" if state < self.inputs else f"node {state - self.inputs}"

    @property
    def groups(self) -> tuple[Group, ...]:
        """The candidates by source, operation and stride, in the order of their first edges."""
        members: dict[tuple[int, str, int], list[tuple[int, int]]] = {}
        for e, edge in enumerate(self.edges):
            for o, name in edge.operations:
                members.setdefault((edge.source, name, edge.stride), []).append((e, o))
        return tuple(Group(*key, *zip(*pairs, strict=True)) for key, pairs in members.items())

    @property
    def width(self) -> int:
        """O, the largest number of candidates on an edge."""
        return max(len(edge.candidates) for edge in self.edges)

    @property
    def candidate_mask(self) -> np.ndarray:
        """bool [E, O]: which entries of the edge weights belong to a candidate."""
        return np.array([[o < len(edge.candidates) for o in range(self.width)] for edge in self.edges])

    def without(self, operations: Sequence[str]) -> np.ndarray:
        """`candidate_mask` without the candidates named in `operations`."""
        mask = self.candidate_mask
        for e, edge in enumerate(self.edges):
            for o, name in enumerate(edge.candidates):
                mask[e, o] &= name not in operations
        return mask


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """A search space.

    Attributes:
      name: for messages and file names only.
      cells: graph of every cell kind, in the order in which selection visits the kinds.
      layout: macro skeleton; maps the configured number of cells to the sequence of cell kinds (or `RESIDUAL_BLOCK`)
        from stem to head.
      stem_multiplier: the stem has this many times the configured channels.
      final_norm: whether BatchNorm and ReLU precede the global average pool.
      pool_norm: whether a BatchNorm follows the pooling operations of the supernet.
      inputs_per_node: incoming edges that the final architecture keeps per node; None keeps all (no topology stage).
      magnitude_ignores: operations that magnitude selection never chooses.
      notation: how a genotype is written, "darts", "nasbench201", or "json" (see `Genotype.text`).
    """

    name: str
    cells: Mapping[str, CellGraph]
    layout: Callable[[int], tuple[str, ...]]
    stem_multiplier: int = 3
    final_norm: bool = False
    pool_norm: bool = True
    inputs_per_node: int | None = 2
    magnitude_ignores: tuple[str, ...] = ("none",)
    notation: str = "darts"

    def restricted(self, allowed: Mapping[str, np.ndarray]) -> "SearchSpace":
        """The space without the candidates that are False in `allowed`, bool [E, O] by cell kind."""
        cells = {}
        for kind, graph in self.cells.items():
            rows = zip(graph.edges, allowed[kind], strict=True)
            edges = (
                dataclasses.replace(edge, candidates=tuple(n if ok else None for n, ok in zip(edge.candidates, row)))  # noqa: B905
                for edge, row in rows
            )
            cells[kind] = dataclasses.replace(graph, edges=tuple(edges))
        return dataclasses.replace(self, cells=cells)

    def choosable_nodes(self, kind: str) -> tuple[int, ...]:
        """States of `kind` that have more incoming edges than the final architecture keeps."""
        cell, keep = self.cells[kind], self.inputs_per_node
        return tuple(s for s in cell.node_states if keep is not None and len(cell.incoming(s)) > keep)

    def input_sets(self, edges: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The sets of inputs that the final architecture may keep of a node's `edges`, in their order."""
        keep = len(edges) if self.inputs_per_node is None else min(self.inputs_per_node, len(edges))
        return itertools.combinations(edges, keep)


def dag(
    inputs: int,
    nodes: int,
    candidates: Sequence[str] | Mapping[int, Sequence[str]],
    outputs: Sequence[int] | None = None,
    reduction: bool = False,
) -> CellGraph:
    """The complete directed acyclic graph over `inputs` and `nodes`.

    Args:
      inputs: number of input states.
      nodes: number of intermediate nodes, each with an edge from every earlier state.
      candidates: the operations of all edges, or a mapping from the number of an edge to its operations.
      outputs: states that form the output; by default the intermediate nodes.
      reduction: whether the edges that leave an input have stride 2.
    """
    ends = [(s, t) for t in range(inputs, inputs + nodes) for s in range(t)]
    edges = tuple(
        Edge(
            s,
            t,
            2 if reduction and s < inputs else 1,
            tuple(candidates[i] if isinstance(candidates, Mapping) else candidates),
        )
        for i, (s, t) in enumerate(ends)
    )
    return CellGraph(inputs, nodes, edges, tuple(outputs or range(inputs, inputs + nodes)), reduction)


def as_lists(weights: Mapping[str, np.ndarray], space: SearchSpace) -> dict[str, list[list[float]]]:
    """Edge weights [E, O] by cell kind as plain lists; a row has one entry for each candidate of its edge."""
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


def darts_layout(cells: int) -> tuple[str, ...]:
    """Reduction cells at one third and two thirds of the depth (DARTS, section 3.1)."""
    return tuple("reduce" if i in (cells // 3, 2 * cells // 3) else "normal" for i in range(cells))


def nasbench201_layout(cells: int) -> tuple[str, ...]:
    """Three stages of `cells` normal cells with a residual block between stages (NAS-Bench-201, section 2.1)."""
    stage = ("normal",) * cells
    return (*stage, RESIDUAL_BLOCK, *stage, RESIDUAL_BLOCK, *stage)


def darts_like(name: str, normal, reduce=None) -> SearchSpace:
    """A space on the DARTS cell: two inputs, four nodes, 14 edges, a normal and a reduction kind."""
    reduce = normal if reduce is None else reduce
    return SearchSpace(name, {"normal": dag(2, 4, normal), "reduce": dag(2, 4, reduce, reduction=True)}, darts_layout)


DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NASBENCH201_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

_SHORT = {
    "skip": "skip_connect",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "sep3": "sep_conv_3x3",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
}


def _table(text: str) -> dict[int, tuple[str, ...]]:
    return {e: tuple(_SHORT[o] for o in pair.split("/")) for e, pair in enumerate(text.split())}


S1_NORMAL = _table("skip/dil3 skip/dil5 skip/dil5 skip/sep3 skip/dil3 max/skip skip/sep3"
                   " skip/sep3 skip/dil3 skip/sep3 max/skip skip/dil3 dil3/dil5 dil3/dil5")  # fmt: skip
S1_REDUCE = _table("max/avg max/dil3 max/avg max/avg skip/dil5 max/avg max/sep3"
                   " skip/dil3 skip/dil5 max/avg max/avg skip/dil5 skip/dil5 skip/dil5")  # fmt: skip

SPACES = {
    space.name: space
    for space in (
        darts_like("darts", DARTS_OPERATIONS),
        darts_like("darts_none", ("none", *DARTS_OPERATIONS)),
        darts_like("s1", S1_NORMAL, S1_REDUCE),
        darts_like("s2", ("skip_connect", "sep_conv_3x3")),
        darts_like("s3", ("none", "skip_connect", "sep_conv_3x3")),
        darts_like("s4", ("noise", "sep_conv_3x3")),
        SearchSpace(
            name="nasbench201",
            cells={"normal": dag(1, 3, NASBENCH201_OPERATIONS, outputs=(3,))},
            layout=nasbench201_layout,
            stem_multiplier=1,
            final_norm=True,
            pool_norm=False,
            inputs_per_node=None,
            magnitude_ignores=(),
            notation="nasbench201",
        ),
    )
}
"""The published spaces by name (paper, sections 5.2, A.1.1 and A.2; S1 to S4 come from RobustDARTS)."""

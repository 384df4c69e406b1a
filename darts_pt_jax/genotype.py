"""Genotypes: final architectures, that is, the operation on each kept edge of each cell kind."""

import ast
import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from darts_pt_jax.spaces import CellGraph, SearchSpace

Node = tuple[tuple[str, int], ...]
"""A node's inputs, (operation, source state), by ascending source; a genotype that was read keeps the text's order."""


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
        _check(self.cells, self.outputs)

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
        return json.dumps({"cells": self.cells, "outputs": self.outputs})

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Reads `to_json`'s text.

        Raises:
          ValueError: it is not the JSON of a genotype.
        """
        try:
            data = json.loads(text)
            fields = {name: {kind: _tuples(value) for kind, value in data[name].items()} for name in data}
        except (ValueError, TypeError, AttributeError, RecursionError):
            fields = {}
        _expect(fields.keys() == {"cells", "outputs"}, "genotype", text, 'JSON {"cells": {...}, "outputs": {...}}')
        return cls(**fields)

    def text(self, notation: str) -> str:
        """The architecture in a notation of the literature (`SearchSpace.notation`); `from_text` reads it back.

        "darts" is `Genotype(normal=[...], ...)` of the DARTS code, "nasbench201" the arch string, "json" `to_json`.

        Raises:
          ValueError: the notation is unknown, or cannot express this architecture.
        """
        _expect(notation in _NOTATIONS, "notation", notation, " or ".join(_NOTATIONS))
        write, read, holds = _NOTATIONS[notation]
        try:
            text = write(self)
            same = read(text) == self
        except ValueError:
            same = False
        _expect(same, f"{notation} notation", self.cells, f"{holds}: write this genotype as JSON")
        return text

    @classmethod
    def from_text(cls, text: str) -> "Genotype":
        """Reads what `text` writes, in any notation.

        Args:
          text: `Genotype(normal=[...], normal_concat=..., ...)`, also as the assignment `NAME = Genotype(...)` of the
            DARTS code's genotypes.py, an arch string `|operation~0|+|operation~0|operation~1|`, or JSON.

        Raises:
          ValueError: it is none of these; operations are not looked up.
        """
        text = text.strip()
        return {"|": _read_nasbench201, "{": cls.from_json}.get(text[:1], _read_darts)(text)


def _expect(condition, place: str, got, expected: str):
    if not condition:
        raise _error(place, got, expected)


def _error(place: str, got, expected: str) -> ValueError:
    return ValueError(f"{place}: got {got!r:.80}, expected {expected}")


def _check(cells: Mapping, outputs: Mapping, inputs: int | None = None):
    """Refuses malformed cells. `inputs` is the number of states that cells start from; None: as the outputs imply."""
    _expect(cells, "genotype", cells, "a cell kind or more")
    _expect(cells.keys() == outputs.keys(), "outputs", list(outputs), f"those of the cell kinds {', '.join(cells)}")
    for kind, nodes in cells.items():
        _expect(isinstance(nodes, tuple) and nodes, kind, nodes, "a list of nodes, at least one")
        states = outputs[kind]
        listed = isinstance(states, tuple) and states and all(type(s) is int and s >= 0 for s in states)
        _expect(listed, f"{kind} outputs", states, "a list of states, at least one")
        first = max(states) + 1 - len(nodes) if inputs is None else inputs
        last = max(first, 1) + len(nodes) - 1
        _expect(max(states) == last, f"{kind} outputs", states, f"the last state {last} among them and none after it")
        for n, node in enumerate(nodes):
            _expect(isinstance(node, tuple) and node, f"{kind} node {n}", node, "a list of inputs, at least one")
            for i, pair in enumerate(node):
                place, kinds = f"{kind} node {n}, input {i}", [type(v) for v in pair] if isinstance(pair, tuple) else []
                _expect(kinds == [str, int], place, pair, "an operation's name and a state's number")
                _expect(0 <= pair[1] < first + n, place, pair[1], f"an earlier state, 0 to {first + n - 1}")


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _write_darts(genotype: Genotype) -> str:
    parts = []
    for kind, nodes in genotype.cells.items():
        parts.append(f"{kind}={[pair for node in nodes for pair in node]}")
        parts.append(f"{kind}_concat={list(genotype.outputs[kind])}")
    return f"Genotype({', '.join(parts)})"


def _read_darts(text: str) -> Genotype:
    place = "genotype"
    try:
        (statement,) = ast.parse(text).body
        call: Any = statement.value  # type: ignore[attr-defined]
        fields = {keyword.arg: keyword.value for keyword in call.keywords}
        known = ast.unparse(call.func).split(".")[-1] == "Genotype" and isinstance(statement, ast.Expr | ast.Assign)
        known = known and not call.args and len(fields) == len(call.keywords) and None not in fields
    except SyntaxError as error:
        place, known = f"genotype, line {error.lineno}, character {error.offset}", False
    except (ValueError, AttributeError, RecursionError, MemoryError):
        known = False
    _expect(known, place, text, "Genotype(normal=[...], normal_concat=[...], ...) or |operation~0|+|...|")
    cells, outputs = {}, {}
    for name, value in fields.items():
        if name.endswith("_concat"):
            outputs[name.removesuffix("_concat")] = _literal(name, value)
        else:
            pairs = _literal(name, value)
            _expect(isinstance(pairs, tuple), name, pairs, "a list of pairs")
            _expect(len(pairs) % 2 == 0, name, len(pairs), "an even number of pairs, two for each node")
            cells[name] = tuple(pairs[i : i + 2] for i in range(0, len(pairs), 2))
    _check(cells, outputs, inputs=2)
    return Genotype(cells, outputs)


def _literal(name: str, value: ast.expr):
    """The value of a literal, lists as tuples, or of `range(...)`."""
    try:
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "range" and not value.keywords:
            return tuple(range(*map(ast.literal_eval, value.args))[:999])
        return _tuples(ast.literal_eval(value))
    except (ValueError, TypeError):
        raise _error(name, ast.unparse(value), "a list") from None


def _write_nasbench201(genotype: Genotype) -> str:
    (nodes,) = genotype.cells.values()
    return "+".join("|" + "".join(f"{operation}~{source}|" for operation, source in node) for node in nodes)


def _read_nasbench201(text: str) -> Genotype:
    nodes = []
    for n, part in enumerate(text.split("+")):
        _expect(re.fullmatch(r"\|.+\|", part), f"normal node {n}", part, "|operation~state|...|")
        node = []
        for i, pair in enumerate(part[1:-1].split("|")):
            found = re.fullmatch(r"([^~]+)~([0-9]{1,3})", pair)
            if found is None:
                raise _error(f"normal node {n}, input {i}", pair, "operation~state")
            node.append((found[1], int(found[2])))
        nodes.append(tuple(node))
    return Genotype({"normal": tuple(nodes)}, {"normal": (len(nodes),)})


_NOTATIONS = {
    "darts": (_write_darts, _read_darts, "two inputs of every cell and every node"),
    "nasbench201": (
        _write_nasbench201,
        _read_nasbench201,
        "one normal cell with one input and the last node as output",
    ),
    "json": (Genotype.to_json, Genotype.from_json, "anything"),
}


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

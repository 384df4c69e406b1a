"""Architectures as text, in the notations of the literature. Reading a text never executes it."""

import ast
import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from darts_pt_jax import literature
from darts_pt_jax.naming import guess

Node = tuple[tuple[str, int], ...]
"""A node's inputs, (operation, source state), by ascending source; a genotype that was read keeps the text's order."""


class Parts(NamedTuple):
    """What an architecture consists of: `Genotype.cells` and `Genotype.outputs`."""

    cells: Mapping[str, tuple[Node, ...]]
    outputs: Mapping[str, tuple[int, ...]]


def read(text: str, name: str = "") -> Parts:
    """Reads an architecture in any notation; see `Genotype.from_text`.

    Raises:
      ValueError: it is in none, or malformed.
    """
    text = text.removeprefix("\ufeff").strip()
    with _depth_refused(text):
        named = _named(text)
        if named or name:
            text = _chosen(named, name)
        if text in literature.cells():
            cells = literature.cells()[text]
            return Parts(cells, dict.fromkeys(cells, (2, 3, 4, 5)))
        if re.match(r"['\"\s]*\||\w*Structure\(", text):
            return _read_nasbench201(text)
        return read_json(text) if text.startswith("{") else _read_python(text)


@contextlib.contextmanager
def _depth_refused(text: str) -> Iterator[None]:
    """Raises a ValueError where a text is nested too deeply for Python."""
    try:
        yield
    except (RecursionError, MemoryError):
        raise _error("genotype", text, "less nesting") from None


def write(parts: Parts, notation: str) -> str:
    """Writes an architecture in the notation "darts", "nasbench201" or "json", such that `read` gives it back.

    Raises:
      ValueError: the notation is unknown, or cannot express this architecture.
    """
    expect(notation in _NOTATIONS, "notation", notation, " or ".join(_NOTATIONS))
    writer, holds = _NOTATIONS[notation]
    try:
        text = writer(parts)
        same = read(text) == parts
    except ValueError:
        same = False
    expect(same, f"{notation} notation", parts.cells, f"{holds}: write this genotype as JSON")
    return text


def expect(condition, place: str, got, expected: str):
    """Raises a ValueError of one line unless the condition holds."""
    if not condition:
        raise _error(place, got, expected)


def _error(place: str, got, expected: str) -> ValueError:
    return ValueError(f"{place}: got {got!r:.80}, expected {expected}")


def check(cells: Mapping, outputs: Mapping, inputs: int | None = None):
    """Refuses malformed cells. `inputs` is the number of states that cells start from; None: as the outputs imply.

    Raises:
      ValueError: they are malformed; one line names the place (nodes and their inputs count from 0).
    """
    expect(cells, "genotype", cells, "a cell kind or more")
    expect(cells.keys() == outputs.keys(), "outputs", list(outputs), f"those of the cell kinds {', '.join(cells)}")
    for kind, nodes in cells.items():
        expect(isinstance(nodes, tuple) and nodes, kind, nodes, "a list of nodes, at least one")
        states = outputs[kind]
        listed = isinstance(states, tuple) and states and all(type(s) is int and s >= 0 for s in states)
        expect(listed, f"{kind} outputs", states, "a list of states, at least one")
        first = max(states) + 1 - len(nodes) if inputs is None else inputs
        last = max(first, 1) + len(nodes) - 1
        expect(max(states) == last, f"{kind} outputs", states, f"the last state {last} among them and none after it")
        for n, node in enumerate(nodes):
            expect(isinstance(node, tuple) and node, f"{kind} node {n}", node, "a list of inputs, at least one")
            for i, pair in enumerate(node):
                place, kinds = f"{kind} node {n}, input {i}", [type(v) for v in pair] if isinstance(pair, tuple) else []
                expect(kinds == [str, int], place, pair, "an operation's name and a state's number")
                expect(0 <= pair[1] < first + n, place, pair[1], f"an earlier state, 0 to {first + n - 1}")


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _named(text: str) -> dict[str, str]:
    """The texts of a file of several architectures by name; {} if the text is one without a name."""
    if text.startswith("{"):
        return _texts_of_stages(text)
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return _lines_of_a_log(text)
    except ValueError:  # it has null characters
        return {}
    values: dict[str, ast.expr] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign):
            value = statement.value
            value = values.get(value.id, value) if isinstance(value, ast.Name) else value
            values |= {target.id: value for target in statement.targets if isinstance(target, ast.Name)}
    return {name: ast.unparse(value) for name, value in values.items() if _is_genotype(value)}


def _texts_of_stages(text: str) -> dict[str, str]:
    """The texts in a file of CDARTS, JSON with a genotype for each stage of the network; {} if it is no such file."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
    return {}


def _lines_of_a_log(text: str) -> dict[str, str]:
    """The genotypes in the lines of a log, without what stands before them, such as the time."""
    found = {}
    for n, line in enumerate(text.splitlines(), 1):
        start = line.find("Genotype(")
        if start > 0 and line.rstrip().endswith(")"):
            found[f"line {n}"] = line[start:]
    return found


def _chosen(named: Mapping[str, str], name: str) -> str:
    """The text of that name; without a name, the only text that there is."""
    names = repr(", ".join(named))[1:-1]  # of one line
    if name:
        near = guess(name, named, ignore_case=True)
        expect(name in named, "genotype", name, f"{names:.120}{near}" if named else "no name, as the text has none")
        return named[name]
    text, *others = set(named.values())
    if others:
        raise ValueError(
            f"genotype: got {len(named)} architectures, expected one: add its name, as in FILE:NAME (it has {names:.120})"
        )
    return text


def _write_darts(parts: Parts) -> str:
    fields = []
    for kind, nodes in parts.cells.items():
        fields.append(f"{kind}={[pair for node in nodes for pair in node]}")
        fields.append(f"{kind}_concat={list(parts.outputs[kind])}")
    return f"Genotype({', '.join(fields)})"


_EXPECTED = "Genotype(normal=[...], normal_concat=[...], ...) or |operation~0|+|...| or a published name"


def _read_python(text: str) -> Parts:
    """Reads a call `Genotype(...)`, or the numbers of an architecture of NAS-Bench-201."""
    place, value = "genotype", None
    try:
        (statement,) = ast.parse(text).body
        value = statement.value if isinstance(statement, ast.Expr) else None
    except SyntaxError as error:
        place = f"genotype, line {error.lineno}, character {error.offset}"
    except ValueError:  # no statement, several, or null characters
        pass
    if isinstance(value, ast.Tuple | ast.List):
        return _read_numbers(_literal("genotype", value))
    expect(value is not None and _is_genotype(value), place, text, _EXPECTED)
    call: Any = value
    fields = {keyword.arg: keyword.value for keyword in call.keywords}
    plain = not call.args and len(fields) == len(call.keywords) and None not in fields
    expect(plain, place, text, _EXPECTED)
    cells, outputs = {}, {}
    for name, field in fields.items():
        if name.endswith("_concat"):
            outputs[name.removesuffix("_concat")] = _literal(name, field)
        else:
            cells[name] = _nodes(name, _literal(name, field))
    check(cells, outputs, inputs=2)
    return Parts(cells, outputs)


def _is_genotype(value: ast.expr) -> bool:
    """Whether an expression is `Genotype(...)`, also `genotypes.Genotype(...)`."""
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] == "Genotype"


def _nodes(kind: str, entries) -> tuple[Node, ...]:
    """The nodes of a cell from its pairs, two for each node, or from a list of pairs for each node."""
    expect(isinstance(entries, tuple), kind, entries, "a list of pairs")
    by_node = bool(entries) and all(isinstance(e, tuple) and e and isinstance(e[0], tuple) for e in entries)
    for pair in itertools.chain.from_iterable(entries) if by_node else entries:
        expect(
            not (isinstance(pair, tuple) and len(pair) == 3), kind, pair,
            "pairs (operation, source state): write triples, such as FairDARTS' (operation, node, source state), as a "
            "list of pairs for each node",
        )  # fmt: skip
    if by_node:
        return entries
    expect(len(entries) % 2 == 0, kind, len(entries), "an even number of pairs, two for each node")
    return tuple(entries[i : i + 2] for i in range(0, len(entries), 2))


def _literal(name: str, value: ast.expr):
    """The value of a literal, lists as tuples, or of `range(...)`."""
    try:
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "range" and not value.keywords:
            return tuple(range(*map(ast.literal_eval, value.args))[:999])
        return _tuples(ast.literal_eval(value))
    except (ValueError, TypeError):
        raise _error(name, ast.unparse(value), "a list") from None


def _write_nasbench201(parts: Parts) -> str:
    (nodes,) = parts.cells.values()
    return write_nasbench201(nodes)


def write_nasbench201(nodes: Sequence[Node]) -> str:
    """The arch string of a cell's nodes."""
    return "+".join("|" + "".join(f"{operation}~{source}|" for operation, source in node) for node in nodes)


def _read_nasbench201(text: str) -> Parts:
    """Reads an arch string, also as `Structure(4 nodes with ...)`; spaces, line breaks and quotes do not matter."""
    text = re.sub(r"[\s'\"]+", "", text)
    structure = re.fullmatch(r"\w*Structure\(([0-9]{1,3})nodeswith(.*)\)", text)
    text = structure[2] if structure else text
    nodes = []
    for n, part in enumerate(text.split("+")):
        expect(re.fullmatch(r"\|.+\|", part), f"normal node {n}", part, "|operation~state|...|")
        node = []
        for i, pair in enumerate(part[1:-1].split("|")):
            found = re.fullmatch(r"([^~]+)~([0-9]{1,3})", pair)
            if found is None:
                raise _error(f"normal node {n}, input {i}", pair, "operation~state")
            node.append((found[1], int(found[2])))
        nodes.append(tuple(node))
    if structure:
        expect(int(structure[1]) == len(nodes) + 1, "Structure", int(structure[1]), f"{len(nodes) + 1} nodes")
    return _one_cell(nodes)


def _one_cell(nodes) -> Parts:
    """The normal cell with one input whose last node is the output."""
    parts = Parts({"normal": tuple(nodes)}, {"normal": (len(nodes),)})
    check(*parts)
    return parts


_NUMBERED = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""The operations that NASLib's `op_indices` number from 0."""


def _read_numbers(numbers) -> Parts:
    """Reads NASLib's `op_indices`: an operation for each edge, by source and then by target."""
    edges = list(itertools.combinations(range(4), 2))
    known = len(numbers) == len(edges) and all(type(n) is int and 0 <= n < len(_NUMBERED) for n in numbers)
    meaning = ", ".join(f"{n} {operation}" for n, operation in enumerate(_NUMBERED))
    expect(known, "genotype", numbers, f"{len(edges)} of NASLib's numbers ({meaning})")
    operations = {edge: _NUMBERED[n] for edge, n in zip(edges, numbers, strict=True)}
    return _one_cell([tuple((operations[s, t], s) for s in range(t)) for t in (1, 2, 3)])


def write_json(parts: Parts) -> str:
    """JSON text; `read_json` reads it back."""
    return json.dumps(parts._asdict())


def read_json(text: str) -> Parts:
    """Reads the JSON of a genotype.

    Raises:
      ValueError: it is something else, or malformed.
    """
    with _depth_refused(text):
        try:
            data = json.loads(text)
            fields = {name: {kind: _tuples(value) for kind, value in data[name].items()} for name in data}
        except (ValueError, TypeError, AttributeError, RecursionError):
            fields = {}
        expect(fields.keys() == {"cells", "outputs"}, "genotype", text, 'JSON {"cells": {...}, "outputs": {...}}')
        parts = Parts(**fields)
        check(*parts)
        return parts


_NOTATIONS = {
    "darts": (_write_darts, "two inputs of every cell and every node"),
    "nasbench201": (_write_nasbench201, "one normal cell with one input and the last node as output"),
    "json": (write_json, "anything"),
}
"""How an architecture is written, and what the notation can express."""

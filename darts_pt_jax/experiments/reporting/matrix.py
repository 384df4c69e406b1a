"""The decisions of a selection at a glance: a matrix for each cell kind, with a row for each edge and a column for each operation."""

import dataclasses
from collections.abc import Mapping, Sequence

from darts_pt_jax.experiments.reporting.decisions import Decision, every_candidate
from darts_pt_jax.selection import certainty, direct
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.spaces import CellGraph, SearchSpace

STRONG = 4.0
"""The number of standard errors that has the full colour."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An operation of an edge.

    Attributes:
      text: its value.
      says: the value with its unit, and whether the operation was chosen or could not be.
      strength: its colour, from -1 (its mask helps) to 1 (it costs much).
      role: "chosen", "barred" or "".
    """

    text: str
    says: str
    strength: float
    role: str


@dataclasses.dataclass(frozen=True)
class Row:
    """An edge.

    Attributes:
      edge: its number.
      ends: from where to where it leads.
      decision: the name of the decision on its operation; "" if there is none yet.
      verdict: "clear", "within noise", "a tie", "error not recorded", or "" if no images were scored.
      entries: an operation of each column, None where it is no candidate or nothing is known.
      by: the decision that kept or dropped the edge; "" if there is none.
      stays: whether it was kept.
    """

    edge: int
    ends: str
    decision: str
    verdict: str
    entries: Sequence[Entry | None]
    by: str
    stays: bool


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The decisions on a cell kind, in the order in which they were taken.

    Attributes:
      kind: the cell kind.
      operations: the columns.
      rows: decided edges in the order of the decisions, then the others.
    """

    kind: str
    operations: Sequence[str]
    rows: Sequence[Row]

    @property
    def drops(self) -> bool:
        """Whether it was decided which edges stay."""
        return any(row.by for row in self.rows)


def matrices(space: SearchSpace, decisions: Sequence[Decision]) -> list[Matrix]:
    """A matrix for each cell kind on which the `decisions` of one order are."""
    found = []
    for kind, graph in space.cells.items():
        of_kind = [d for d in decisions if d.record["kind"] == kind]
        if of_kind:
            found.append(_matrix(kind, graph, of_kind))
    return found


def _matrix(kind: str, graph: CellGraph, decisions: Sequence[Decision]) -> Matrix:
    operations = every_candidate(graph)
    taken = {d.record["edge"]: d for d in decisions if d.record["type"] == "operation"}
    by = _inputs(decisions)
    undecided = [e for e in range(len(graph.edges)) if e not in taken]
    rows = []
    for e in [*taken, *undecided]:
        edge, decision = graph.edges[e], taken.get(e)
        entries = _entries(decision) if decision else {}
        rows.append(
            Row(
                edge=e,
                ends=f"{graph.state_name(edge.source)} → {edge.target - graph.inputs}",
                decision=decision.name if decision else "",
                verdict=decision.doubt if decision else "",
                entries=[entries.get(name) for name in operations],
                by=by[e][0] if e in by else "",
                stays=e not in by or by[e][1],
            )
        )
    return Matrix(kind, operations, rows)


def _inputs(decisions: Sequence[Decision]) -> dict[int, tuple[str, bool]]:
    """The name of the decision that kept or dropped each edge, and whether it was kept."""
    found = {}
    for decision in decisions:
        record = decision.record
        if record["type"] == "topology":
            found |= {e: (decision.name, e in record["choice"]) for e in record["edges"]}
        found |= {e: (decision.name, False) for e in record.get("pruned", [])}
    return found


def _entries(decision: Decision) -> dict[str, Entry]:
    """The candidates of a decided edge by name."""
    record = decision.record
    values = _harms(decision) if decision.contests else _weights(record)
    found = {}
    for i, (name, (text, says, strength)) in enumerate(zip(record["candidates"], values, strict=False)):
        role = "chosen" if i == record["choice_index"] else "" if i in record["eligible"] else "barred"
        words = {"chosen": ", chosen", "barred": ", may not be chosen", "": ""}[role]
        found[name] = Entry(text, f"{name}: {says}{words}", strength, role)
    return found


def _harms(decision: Decision) -> list[tuple[str, str, float]]:
    """What each mask costs: in standard errors; where none was recorded, as it is, and coloured by the largest."""
    (contest,), criterion = decision.contests, CRITERIA[decision.record["criterion"]]
    scores, found = contest.scores, []
    masks = range(len(scores[criterion.record]))
    costs = [certainty.excess(scores, i, None, criterion) for i in masks]
    largest = max(abs(cost) for cost, _ in costs) or 1.0
    for i, (cost, error) in enumerate(costs):
        images, _ = certainty.seen_by(scores, i)
        shown = criterion.shown(cost, images)
        if error is None:
            found.append((_short(shown), f"{criterion.harm} {shown:.4g}", cost / largest))
            continue
        ratio = cost / error if error else 0.0 if cost == 0 else STRONG * (1 if cost > 0 else -1)
        says = f"{criterion.harm} {shown:.4g} ± {criterion.shown(error, images):.2g}"
        found.append((_short(ratio), says, max(-1.0, min(1.0, ratio / STRONG))))
    return found


def _weights(record: Mapping) -> list[tuple[str, str, float]]:
    """The values of an edge's operations by which it was decided without masks; weights are shares, others have no unit."""
    title, values = direct.values_of(record)
    if title == "weight":
        return [(f"{value:.2f}", f"weight {value:.4f}", min(1.0, value)) for value in values]
    largest = max(map(abs, values)) or 1.0
    return [(f"{value:.2g}", f"{title} {value:.4g}", value / largest) for value in values]


def _short(value: float) -> str:
    """A number in at most four characters, or as many as it needs."""
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return "0.0" if text == "-0.0" else text

"""The report page's decisions: what each mask costs, with its error, and the lead of each choice."""

import collections
import dataclasses
import string
from collections.abc import Mapping, Sequence

from darts_pt_jax.experiments.reporting import charts
from darts_pt_jax.experiments.reporting.charts import Chart, Table
from darts_pt_jax.selection import certainty, direct
from darts_pt_jax.selection.certainty import Contest
from darts_pt_jax.selection.criteria import CRITERIA, Criterion
from darts_pt_jax.selection.methods import drawn
from darts_pt_jax.selection.strategies import strategy_of
from darts_pt_jax.spaces import CellGraph, SearchSpace


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of one scoring in words.

    Attributes:
      choice: the operation kept, or the edge dropped.
      runner_up: the next one; if nothing else was eligible, this, lead, error and unit are "".
      lead: by how much the choice is ahead.
      error: the paired standard error of the lead; "" if it was not recorded.
      unit: what the lead counts.
      says: "clear", "within noise", or "error not recorded".
      race: how many images a race looked at; "" if it was none.
      by: the rule of `select.ties` that decided a tie; "" for the first of the tied ones.
    """

    choice: str
    runner_up: str = ""
    lead: str = ""
    error: str = ""
    unit: str = ""
    says: str = "clear"
    by: str = ""
    race: str = ""


@dataclasses.dataclass(frozen=True)
class Decision:
    """One decision as the page shows it.

    Attributes:
      name: its number, after that of the order if there are several.
      place: the edge, or the node, that it is about.
      choice: what was chosen.
      record: its line of decisions.jsonl.
      contests, verdicts: one for each scoring; none if no images were scored.
      figures: one for each scoring, or one with the weights that decided.
    """

    name: str
    place: str
    choice: str
    record: Mapping
    contests: Sequence[Contest]
    verdicts: Sequence[Verdict]
    figures: Sequence[Chart]

    @property
    def at_random(self) -> bool:
        """Whether it goes by neither scores nor alphas."""
        return drawn(self.record)

    @property
    def measure(self) -> str:
        """What its margin is in where no masks were scored, such as "weight"."""
        return direct.values_of(self.record)[0]

    @property
    def limit(self) -> str:
        """What would have been chosen without a limit; "" if the same."""
        return certainty.limit_words(self.record)

    @property
    def doubt(self) -> str:
        """A word for how far the images support it: `Verdict.says` of its least sure scoring, or "a tie"; or ""."""
        if certainty.is_tie(self.record):
            return "a tie"
        said = {verdict.says for verdict in self.verdicts}
        return next((word for word in ("within noise", "error not recorded", "clear") if word in said), "")


def described(space: SearchSpace, orders: int, record: Mapping) -> Decision:
    """A line of decisions.jsonl of a run of so many `orders`, ready for the page."""
    graph = space.cells[record["kind"]]
    if record["type"] == "operation":
        edge = graph.edges[record["edge"]]
        place = f"{record['kind']} cell, edge {record['edge']}, {ends(graph, edge)}"
        choice = record["choice"]
    else:
        place = f"{record['kind']} cell, inputs of node {record['node']}"
        choice = f"keeps edges {', '.join(map(str, record['choice']))}"
    name = f"{record['order']}.{record['decision']}" if orders > 1 else str(record["decision"])
    where, contests = f"Decision {name}, {place}", certainty.contests(record)
    named = [(contest, _names(graph, record, contest.scores)) for contest in contests]
    figures = [_removals(record, contest, names, where) for contest, names in named]
    verdicts = [_verdict(record, contest, names) for contest, names in named]
    return Decision(name, place, choice, record, contests, verdicts, figures or [_weights(graph, record, where)])


def choices(space: SearchSpace, kind: str, order: int, decisions: Sequence[Mapping]) -> Table | None:
    """How often each operation of a cell's edges is chosen: on other images, and in the orders of the run.

    Args:
      space: the search space.
      kind: the cell kind.
      order: the order whose decisions are drawn anew on other images, from 1.
      decisions: the decisions of all orders.

    Returns:
      A table, or None if the records tell neither.
    """
    graph = space.cells[kind]
    of_kind = [d for d in decisions if d["type"] == "operation" and d["kind"] == kind]
    orders = len({d["order"] for d in of_kind})
    head, rows = ["edge"], []
    resampled = {d["edge"]: certainty.resampled(d) for d in of_kind if d["order"] == order}
    if any(resampled.values()):
        head.append("chosen on images drawn anew, %")
    if orders > 1:
        head.append(f"chosen in {orders} orders")
    for e, edge in enumerate(graph.edges):
        row = [f"{e}: {graph.state_name(edge.source)} → {edge.target - graph.inputs}"]
        if any(resampled.values()):
            row.append(_listed({name: 100 * share for name, share in resampled.get(e, {}).items()}))
        if orders > 1:
            row.append(_listed(dict(collections.Counter(d["choice"] for d in of_kind if d["edge"] == e).most_common())))
        rows.append(row)
    return Table(f"How often each operation is chosen, {kind} cell", head, rows) if len(head) > 1 else None


def _listed(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:.0f}" for name, count in counts.items() if count >= 0.5)


def raced(decisions: Sequence[Mapping]) -> str:
    """A sentence on how many images races have saved; "" without races."""
    if not any(map(certainty.race_words, decisions)):
        return ""
    done, full = (sum(counts) for counts in zip(*map(certainty.effort, decisions), strict=True))
    return (
        f"Scorings were raced, and removals left them early: {done:,} of {full:,} images, over all removals, were scored "
        f"({100 * done / full:.0f} %)."
    )


def limited(limits: Mapping[str, int], decisions: Sequence[Mapping]) -> str:
    """A sentence on what limits did, by their keys and values; "" without limits."""
    if not limits:
        return ""
    within = " and ".join(f"{key}={limit}" for key, limit in limits.items())
    ruled, changed = (sum(map(bool, map(of, decisions))) for of in (certainty.limited, certainty.limit_words))
    return f"{within} ruled out choices in {ruled} of {len(decisions)} decisions, and changed {changed} of them."


def ends(graph: CellGraph, edge) -> str:
    """From where to where an edge leads."""
    return f"{graph.state_name(edge.source)} to {graph.state_name(edge.target)}"


def every_candidate(*graphs: CellGraph) -> list[str]:
    """The candidates of all edges, each once."""
    return list(dict.fromkeys(name for graph in graphs for edge in graph.edges for name in edge.candidates))


def in_all(space: SearchSpace, orders: int, decisions: Sequence[Mapping]) -> int:
    """How many decisions a run takes in `orders` selections, of which it has taken `decisions`.

    Every edge gets an operation and every node its inputs. SGAS, whose records say what was pruned, decides only the
    edges that it keeps.
    """
    if any("pruned" in decision for decision in decisions):
        graphs, most = space.cells.values(), space.inputs_per_node
        incoming = [len(graph.incoming(state)) for graph in graphs for state in graph.node_states]
        return orders * sum(min(count, most or count) for count in incoming)
    return orders * sum(len(graph.edges) + len(space.choosable_nodes(kind)) for kind, graph in space.cells.items())


def _names(graph: CellGraph, record: Mapping, scored: Mapping) -> list[str]:
    """The candidates of an edge, or the incoming edges of a node that `scored["edges"]` lists."""
    if record["type"] == "operation":
        return list(record["candidates"])
    return [f"edge {e}, from {graph.state_name(graph.edges[e].source)}" for e in scored["edges"]]


def _verdict(record: Mapping, contest: Contest, names: Sequence[str]) -> Verdict:
    """A scoring in words; `names` are those of its removals."""
    choice = names[contest.winner]
    if contest.runner_up is None:
        return Verdict(choice)
    criterion = CRITERIA[record["criterion"]]
    unit = criterion.unit
    if criterion.counts and contest.lead == 1 and contest.error is None:
        unit = unit.removesuffix("s")
    return Verdict(
        choice,
        runner_up=names[contest.runner_up],
        lead=f"{contest.lead:,}" if criterion.counts else f"{contest.lead:.3g}",
        error="" if contest.error is None else f"{contest.error:.2g}",
        unit=unit,
        says={True: "within noise", False: "clear", None: "error not recorded"}[contest.within_noise],
        by=contest.scores.get("ties", ""),
        race=certainty.race_words(contest.scores),
    )


def _removals(record: Mapping, contest: Contest, names: Sequence[str], where: str) -> Chart:
    """What each mask of a scoring costs: a chart by the criterion that decided, a table by all that were recorded."""
    scores, decisive, strategy = contest.scores, CRITERIA[record["criterion"]], strategy_of(record)
    recorded = [criterion for criterion in CRITERIA.values() if criterion.record in scores["baseline"]]
    roles = _roles(record, contest, len(names))

    nothing = ["nothing"]
    for criterion in recorded:
        nothing += [_value(criterion, scores["baseline"][criterion.record]), ""]
    raced = ["images"] if "raced" in scores else []
    nothing += [f"{scores['images']:,}"] * len(raced)
    rows, points = [[*nothing, ""]], []
    for i, (name, role) in enumerate(zip(names, roles, strict=True)):
        row = [name]
        for criterion in recorded:
            row += [_value(criterion, scores[criterion.record][i]), _cost_text(criterion, scores, i)]
        if "raced" in scores:
            row.append(f"{scores['raced']['images'][i]:,}")
        says = "" if role == "other" else role
        if i in scores.get("ruled_out", ()):
            says = "ruled out by a limit"
        rows.append([*row, "runner-up" if i == contest.runner_up else says])
        cost, error = _cost(decisive, scores, i)
        points.append({strategy.tried: name, decisive.harm: cost, "role": role, **_interval(cost, error)})

    marks = ["", *(role if role in ("kept", "dropped") else "" for role in roles)]
    columns = [column for criterion in recorded for column in (criterion.column, criterion.harm)]
    means = " and ".join(("" if criterion.counts else "mean ") + criterion.column for criterion in recorded)
    images = certainty.race_words(scores) or f"{scores['images']:,} images"
    caption = f"{where}: {images}, {means} {strategy.after}"
    table = Table(caption, (strategy.tried, *columns, *raced, ""), rows, marks)
    spec = charts.drops(points, decisive.harm, strategy.tried)
    return Chart(spec, f"{where}: {decisive.harm} {strategy.after}", table)


def _roles(record: Mapping, contest: Contest, count: int) -> list[str]:
    """The role in the chart of each of `count` masks."""
    if record["type"] == "topology":
        return ["dropped" if i == contest.winner else "other" for i in range(count)]
    eligible = ["other" if i in record["eligible"] else "may not be chosen" for i in range(count)]
    return ["kept" if i == contest.winner else role for i, role in enumerate(eligible)]


def _cost(criterion: Criterion, scores: Mapping, mask: int) -> tuple[float, float | None]:
    """What a mask costs, and its paired standard error, in the unit of the charts."""
    cost, error = certainty.excess(scores, mask, None, criterion)
    images, _ = certainty.seen_by(scores, mask)
    return criterion.shown(cost, images), None if error is None else criterion.shown(error, images)


def _cost_text(criterion: Criterion, scores: Mapping, mask: int) -> str:
    (cost, error), digits = _cost(criterion, scores, mask), 2 if criterion.counts else 4
    return f"{cost:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _value(criterion: Criterion, value: float) -> str:
    """A recorded value as tables show it."""
    return f"{value:,}" if criterion.counts else f"{value:.4f}"


def _interval(middle: float, error: float | None) -> dict[str, float]:
    """The ends of a point's interval, if its error is known."""
    if error is None:
        return {}
    reach = certainty.WITHIN_NOISE * error
    return {"low": middle - reach, "high": middle + reach}


def _weights(graph: CellGraph, record: Mapping, where: str) -> Chart:
    """What decides where no masks are scored: values of an edge's operations, or the strengths of a node's edges."""
    title, values = direct.values_of(record)
    if record["type"] == "operation":
        keys, eligible, chosen = record["candidates"], record["eligible"], [record["choice"]]
    else:
        keys, eligible, chosen = record["edges"], range(len(record["edges"])), record["choice"]
    others = ["other" if i in eligible else "may not be chosen" for i in range(len(keys))]
    limited = record.get("ruled_out", []) if record["type"] == "operation" else []
    roles = ["kept" if key in chosen else other for key, other in zip(keys, others, strict=True)]
    candidates = list(zip(_names(graph, record, record), values, roles, strict=False))
    points = [{"candidate": name, title: value, "role": role} for name, value, role in candidates]
    digits = ".4f" if title == "weight" else ".4g"
    rows = []
    for i, (name, value, role) in enumerate(candidates):
        says = "ruled out by a limit" if i in limited else "" if role == "other" else role
        rows.append((name, format(value, digits), says))
    marks = [role if role == "kept" else "" for role in roles]
    says = f"{where}: {title}"
    table = Table(says, ("candidate", title, ""), rows, marks)
    return Chart(charts.drops(points, title, "candidate") if points else {}, says, table)


def leads(criterion: Criterion, decisions: Sequence[Decision]) -> Chart | None:
    """All scorings at a glance: choice, runner-up, lead and its error."""
    value = column = f"lead {criterion.unit}"
    if criterion.counts:
        value, column = "lead, points", f"lead, {criterion.unit}"
    rows, points, marks = [], [], []
    for decision in decisions:
        letters = string.ascii_lowercase * len(decision.contests) if len(decision.contests) > 1 else [""]
        for letter, contest, verdict in zip(letters, decision.contests, decision.verdicts, strict=False):
            name, images = decision.name + letter, contest.scores["images"]
            action = f"drops {verdict.choice}" if decision.record["type"] == "topology" else verdict.choice
            ratio = f"{contest.lead / contest.error:.1f}" if contest.error else ""
            ahead = verdict.runner_up, verdict.lead, verdict.error, ratio
            rows.append((name, decision.place, action, *ahead, verdict.says))
            marks.append("doubt" if verdict.says == "within noise" else "")
            lead = criterion.shown(contest.lead, images)
            error = None if contest.error is None else criterion.shown(contest.error, images)
            points.append({"decision": name, value: lead, "role": verdict.says, **_interval(lead, error)})
    if not rows:
        return None
    head = ("decision", "place", "choice", "runner-up", column, "standard error", "lead / error", "verdict")
    table = Table("Every decision, its runner-up, and the paired standard error of the lead", head, rows, marks)
    return Chart(charts.leads(points, value), "Lead of the choice over the runner-up, decision by decision", table)

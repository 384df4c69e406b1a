"""What the report page says of decisions: every removal's cost and its error, the lead of the choice, in words and charts."""

from collections.abc import Mapping, Sequence

from darts_pt_jax.selection.noise import Contest

from darts_pt_jax.selection import noise
from darts_pt_jax.spaces import CellGraph, SearchSpace
from experiments.config.schema import Config
from experiments.reporting import charts
from experiments.reporting.charts import Chart, Table


def described(space: SearchSpace, config: Config, record: Mapping) -> dict:
    """One decision: what it is about, what was chosen, its scorings with chart and table."""
    graph = space.cells[record["kind"]]
    if record["type"] == "operation":
        edge = graph.edges[record["edge"]]
        ends = " to ".join(graph.state_name(state) for state in (edge.source, edge.target))
        place, choice = f"{record['kind']} cell, edge {record['edge']}, {ends}", record["choice"]
    else:
        place = f"{record['kind']} cell, inputs of node {record['node']}"
        choice = f"keeps edges {', '.join(map(str, record['choice']))}"
    name = f"{record['order']}.{record['decision']}" if config.select.orders > 1 else str(record["decision"])
    contests = noise.contests(record)
    names = [_names(graph, record, c) for c in contests]
    figures = [_drops(record, c, n, f"Decision {name}, {place}") for c, n in zip(contests, names, strict=True)]
    figures = figures or [_weights(graph, record, f"Decision {name}, {place}")]
    verdicts = [_verdict(record, c, n) for c, n in zip(contests, names, strict=True)]
    return {"name": name, "place": place, "choice": choice, "contests": contests, "figures": figures,
            "verdicts": verdicts, "record": record, "names": names}  # fmt: skip


def _names(graph: CellGraph, record: Mapping, contest: Contest) -> list[str]:
    """What each mask of a scoring removes."""
    if record["type"] == "operation":
        return list(record["candidates"])
    return [f"edge {e}, from {graph.state_name(graph.edges[e].source)}" for e in contest.scores["edges"]]


def _verdict(record: Mapping, contest: Contest, names: Sequence[str]) -> dict:
    """In words: the runner-up, the lead with its error, and whether that is within noise."""
    if contest.runner_up is None:
        return {"choice": names[contest.winner], "runner_up": "", "lead": "", "error": "", "says": "clear", "unit": ""}
    acc = record["criterion"] == "acc"
    return {
        "choice": names[contest.winner],
        "runner_up": names[contest.runner_up],
        "lead": f"{contest.lead:,}" if acc else f"{contest.lead:.3g}",
        "unit": "in loss" if not acc else "image" if contest.lead == 1 and contest.error is None else "images",
        "error": "" if contest.error is None else f"{contest.error:.2g}",
        "says": {True: "within noise", False: "clear", None: "error not recorded"}[contest.within_noise],
    }


DROP, RISE = "accuracy drop, points", "rise in loss"
"""What a removal costs, by criterion."""


def _drops(record: Mapping, contest: Contest, names: Sequence[str], where: str) -> Chart:
    """What every removal of a scoring costs, with its paired standard error."""
    scores, value = contest.scores, DROP if record["criterion"] == "acc" else RISE
    n, topology = scores["images"], record["type"] == "topology"
    role = {contest.winner: "dropped" if topology else "kept"}
    eligible = range(len(names)) if topology else record["eligible"]
    base = scores["baseline"]
    rows, points, marks = [("nothing", f"{base['correct']:,}", "", f"{base['loss']:.4f}", "", "")], [], [""]
    for i, name in enumerate(names):
        says = role.get(i, "other" if i in eligible else "may not be chosen")
        drop, loss = (noise.excess(scores, i, None, criterion) for criterion in ("acc", "loss"))
        drop = tuple(x and 100 * x / n for x in drop)
        shown = "runner-up" if i == contest.runner_up else says if says != "other" else ""
        rows.append((name, f"{scores['correct'][i]:,}", _with_error(drop, 2), f"{scores['loss'][i]:.4f}", _with_error(loss, 4), shown))  # fmt: skip
        middle, error = drop if record["criterion"] == "acc" else loss
        ends = {} if error is None else {"low": middle - noise.NOISE * error, "high": middle + noise.NOISE * error}
        points.append({"removed": name, value: middle, "role": says, **ends})
        marks.append(says if says in ("kept", "dropped") else "")
    caption = f"{where}: {n:,} images, right and mean loss after each removal"
    head = ("removed", "right", DROP, "loss", RISE, "")
    return Chart(charts.drops(points, value), f"{where}: {value} after each removal", Table(caption, head, rows, marks))


def _with_error(value: tuple[float, float | None], digits: int) -> str:
    middle, error = value
    return f"{middle:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _weights(graph: CellGraph, record: Mapping, where: str) -> Chart:
    """What a decision without scores goes by: weights of operations, or strengths of edges."""
    topology = record["type"] == "topology"
    values = record.get("strength" if topology else "edge_weights", [])
    names = record.get("candidates") or [f"edge {e}, from {graph.state_name(graph.edges[e].source)}" for e in record["edges"]]  # fmt: skip
    chosen = record["choice"] if topology else [record["choice"]]
    keys = record["edges"] if topology else names
    eligible = range(len(names)) if topology else record["eligible"]
    roles = ["kept" if k in chosen else "other" if i in eligible else "may not be chosen" for i, k in enumerate(keys)]
    of_all = list(zip(names, values, roles, strict=False))
    points = [{"removed": name, "weight": value, "role": role} for name, value, role in of_all]
    rows = [(name, f"{value:.4f}", "" if role == "other" else role) for name, value, role in of_all]
    table = Table(f"{where}: weights", ("candidate", "weight", ""), rows, [r if r == "kept" else "" for r in roles])
    return Chart(charts.drops(points, "weight") if points else {}, f"{where}: weights", table)


def leads(config: Config, decisions: Sequence[dict]) -> Chart | None:
    """All decisions at a glance: choice, runner-up, lead and its error."""
    rows, points, marks = [], [], []
    value = "lead, points" if config.select.criterion == "acc" else "lead in loss"
    for d in decisions:
        for i, (contest, v) in enumerate(zip(d["contests"], d["verdicts"], strict=True)):
            name = d["name"] + ("" if len(d["contests"]) == 1 else "abcdefghijklmnopqrstuvwxyz"[i % 26])
            action = f"drops {v['choice']}" if d["record"]["type"] == "topology" else v["choice"]
            ratio = f"{contest.lead / contest.error:.1f}" if contest.error else ""
            rows.append((name, d["place"], action, v["runner_up"], v["lead"], v["error"], ratio, v["says"]))
            marks.append("doubt" if v["says"] == "within noise" else "")
            scale = 100 / contest.scores["images"] if config.select.criterion == "acc" else 1
            ends = {} if contest.error is None else {
                "low": scale * (contest.lead - noise.NOISE * contest.error),
                "high": scale * (contest.lead + noise.NOISE * contest.error),
            }  # fmt: skip
            points.append({"decision": name, value: scale * contest.lead, "role": v["says"], **ends})
    if not rows:
        return None
    unit = "lead, images" if config.select.criterion == "acc" else value
    head = ("decision", "place", "choice", "runner-up", unit, "standard error", "lead / error", "verdict")
    table = Table("Every decision, its runner-up, and the paired standard error of the lead", head, rows, marks)
    return Chart(charts.leads(points, value), "Lead of the choice over the runner-up, decision by decision", table)

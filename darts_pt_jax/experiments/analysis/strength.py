"""Alphas against the strength of the operations (paper, Figures 1, 2, 7).

An edge is discretised to one of its candidates, all other edges stay mixtures, and the supernet is tuned as between two
decisions of a selection. Its validation accuracy after that is the candidate's strength (section 3.1).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from darts_pt_jax import ops
from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.measures import correlation
from darts_pt_jax.experiments.training.supernet import Regime

OPTIONS = {
    "edges": {
        "default": "3",
        "help": "how many edges are drawn, the same for all runs, or KIND:EDGE,EDGE,... or KIND:all (default: 3)",
    },
    "epochs": {"type": int, "default": 5, "help": "of tuning after an edge is discretised (default: 5)"},
}


def edges(subject: Subject, text: str) -> list[tuple[str, int]]:
    """The edges that --edges names, or as many random ones as it says.

    Raises:
      ConfigError: it names none.
    """
    space = subject.space
    every = [(kind, e) for kind, graph in space.cells.items() for e in range(len(graph.edges))]
    if text.isdecimal() and 1 <= int(text) <= len(every):
        drawn = np.random.RandomState(0).permutation(len(every))[: int(text)]
        return [every[i] for i in sorted(drawn)]
    kind, _, numbers = text.partition(":")
    of_kind = [edge for edge in every if edge[0] == kind]
    wanted = of_kind if numbers == "all" else [(kind, int(e) if e.isdecimal() else -1) for e in numbers.split(",")]
    if not set(wanted) <= set(of_kind) or len(set(wanted)) < len(wanted):
        expected = f"1 to {len(every)}, or one of {', '.join(space.cells)} with its edges, such as {next(iter(space.cells))}:0,1"
        raise ConfigError(f"--edges is {text!r}, expected {expected}")
    return wanted


def run(subject: Subject, options: Options) -> Result:
    """The weight of each candidate on the chosen edges, and the accuracy before and after tuning."""
    if options.epochs < 0:
        raise ConfigError(f"--epochs is {options.epochs}, expected 0 or more")
    chosen = edges(subject, options.edges)
    measured = subject.measured(epochs=options.epochs)
    weights = jax.device_get(subject.training.sampler.undecided(subject.space, subject.state.alphas))
    rows = []
    for kind, e in chosen:
        for o, name in subject.space.cells[kind].edges[e].operations:
            measure = functools.partial(_discretised, subject, kind, e, o, options.epochs)
            found = measured([kind, e, name], measure)
            rows.append({"kind": kind, "edge": e, "operation": name, "weight": float(weights[kind][e, o]), **found})
    summary = summarise(rows)
    agree, count = summary["edges_agreeing"], len(chosen)
    says = f"the operation with the largest weight is the strongest on {agree} of {count} edges"
    if summary["mean_spearman"] is not None:
        says += f"; rank correlation within an edge {summary['mean_spearman']:.2f} on average"
    return Result(summary, rows, says, context={"epochs": options.epochs})


def draw(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """A panel for each edge: accuracy over weight, a point for each operation; of several runs the mean and the range."""
    places = {}
    for row in (row for run in runs for row in run.rows):
        points = places.setdefault((row["kind"], row["edge"]), {}).setdefault(row["operation"], [])
        points.append((row["weight"], row["accuracy"]))
    labels = [("weight of the operation", "accuracy after discretising, %")] * len(places)
    figure, axes = figures.panels(f"{title}; epochs of tuning: {runs[0].context['epochs']}", labels)
    for one, ((kind, edge), operations) in zip(axes, places.items(), strict=True):
        one.set_title(f"{kind} edge {edge}", fontsize=8)
        for name, points in operations.items():
            colour = figures.COLOURS[0] if ops.is_convolution(name) else figures.GREY
            mean = figures.point(one, points, color=colour)
            one.annotate(name, mean, (3, 3), textcoords="offset points", fontsize=6)
        one.margins(0.25)
        figures.few_ticks(one)
    return {"strength": figure}


def summarise(rows: list[dict]) -> dict:
    """How weight and strength agree.

    Returns:
      `edges`: how many there are; `edges_agreeing`: on how many the operation of the largest weight is the strongest;
      `edges_tied`: on how many several are the strongest; `by_operation`: on how many each operation alone has the
      largest weight, and is the strongest; `mean_spearman`: the mean rank correlation within an edge.
    """
    by_edge, names = {}, dict.fromkeys(row["operation"] for row in rows)
    for row in rows:
        by_edge.setdefault((row["kind"], row["edge"]), []).append(row)
    preferred, strongest = ([_best(of_edge, name) for of_edge in by_edge.values()] for name in ("weight", "accuracy"))
    within = [
        correlation([r["weight"] for r in of_edge], [r["accuracy"] for r in of_edge]) for of_edge in by_edge.values()
    ]
    known = [one["spearman"] for one in within if one["spearman"] is not None]
    return {
        "edges": len(by_edge),
        "edges_agreeing": sum(a == b is not None for a, b in zip(preferred, strongest, strict=True)),
        "edges_tied": strongest.count(None),
        "by_operation": {n: {"largest weight": preferred.count(n), "strongest": strongest.count(n)} for n in names},
        "mean_spearman": float(np.mean(known)) if known else None,
    }


def _best(rows: list[dict], name: str) -> str | None:
    """The operation with the largest value; None if several have it."""
    values = [row[name] for row in rows]
    return rows[int(np.argmax(values))]["operation"] if values.count(max(values)) == 1 else None


def _discretised(subject: Subject, kind: str, edge: int, operation: int, epochs: int) -> dict:
    """Validation accuracy with an edge discretised, before and after tuning with the same batches and crops for all."""
    training, search = subject.training, subject.config.search
    state = jax.tree.map(jnp.copy, subject.state)  # a step consumes it
    decisions = state.decisions.choose(kind, edge, operation)
    state = state.replace(decisions=decisions, weight_optimizer=training.weight_optimizer.init(state.params))
    before = subject.accuracy(state)
    rate = search.learning_rate * subject.config.select.tune_lr_factor
    for epoch in range(epochs):
        now = Regime(rate, "epoch", search.batch_size, 1.0)
        state, _ = training.epoch(state, jax.random.fold_in(subject.key(1), epoch), now, subject.loop)
    return {"accuracy_before_tuning": before, "accuracy": subject.accuracy(state) if epochs else before}

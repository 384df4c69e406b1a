"""Selections from the supernets of one search, side by side (paper, Figures 4 to 6, 8 to 24).

Each has a run directory within that of the analysis, such as `perturbation-epoch5`; a repeated command continues it.
"""

import pathlib
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from darts_pt_jax import draw, nasbench201, record
from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.lines import end_of_search
from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.measures import plain_kinds, without_parameters
from darts_pt_jax.experiments.reporting.records import learns_alphas, magnitude_genotype, read_genotype

INTERVALS = {"intervals": {"default": "0,1,2,5", "help": "epochs of tuning between decisions (default: 0,1,2,5)"}}
METRICS = {"c10_test": "CIFAR-10", "c100_test": "CIFAR-100", "in16_test": "ImageNet16-120"}
assert tuple(METRICS) == nasbench201.SUMMARY


def trajectory(subject: Subject, options: Options) -> Result:
    """Magnitude after each epoch if alphas learn, and perturbation from each supernet kept, in the table (Figures 4, 8)."""
    random, rows = subject.random, []  # refused before any work, if no table has the space
    for line in subject.recorded("edge_weights") if learns_alphas(subject.config) else ():
        by_magnitude = magnitude_genotype(subject.space, line["edge_weights"])
        rows.append({"epoch": line["epoch"], "selection": "magnitude", **subject.looked_up(by_magnitude)})
    if options.selected is None:
        for epoch in subject.kept:
            selection = subject.selection(f"perturbation-epoch{epoch}", epoch, select__method="perturbation")
            genotype = read_genotype(subject.carry_out(selection))
            rows.append({"epoch": epoch, "selection": "perturbation", **subject.looked_up(genotype)})
    else:
        for name, one in options.selected[subject.directory]:
            rows.append({"epoch": one.epoch, "selection": name, **subject.looked_up(read_genotype(one.directory))})
    end = end_of_search(subject.metrics)["epoch"]
    last = {row["selection"]: row["c10_test"] for row in rows if row["epoch"] == end}
    numbers = {"at_the_end_of_the_search": last}
    if "magnitude" in last:
        ahead = {f"{name}_less_magnitude": last[name] - last["magnitude"] for name in last if name != "magnitude"}
        numbers |= ahead
    says = ", ".join(f"by {selection} {value:.2f} %" for selection, value in last.items())
    says = f"at the end of the search, on CIFAR-10's test set: {says}"
    return Result(numbers, rows, says, context={"random": random})


def draw_trajectory(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """The accuracies in the table over the epochs, by selection: a panel for each data set, and CIFAR-10 alone."""
    drawn = {"trajectory": list(METRICS), "trajectory-cifar10": ["c10_test"]}
    return {name: _draw_trajectory(title, metrics, runs) for name, metrics in drawn.items()}


def _draw_trajectory(title: str, metrics: Sequence[str], runs: Sequence[Result]) -> Figure:
    figure, axes = _panels(title, "epoch", metrics)
    names = dict.fromkeys(["magnitude", "perturbation", *(row["selection"] for run in runs for row in run.rows)])
    for one, metric in zip(axes, metrics, strict=True):
        for place, name in enumerate(names):
            points = [[(row["epoch"], row[metric]) for row in _of(run, name)] for run in runs]
            if any(points):
                figures.curve(one, points, color=figures.colour(place), label=f"by {name}")
        _draw_random(one, runs[0].context["random"][metric])
        figures.whole_numbers(one)
    figures.legend(figure, axes[0])
    return figure


def _panels(title: str, x: str, metrics: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A panel for each metric of the table."""
    figure, axes = figures.panels(title, [(x, "test accuracy, %")] * len(metrics))
    for one, metric in zip(axes, metrics, strict=True):
        one.set_title(METRICS[metric], fontsize=8)
    return figure, axes


def _draw_random(axes: Axes, random: dict[str, float]):
    """A random choice from the table: its median, and the middle half."""
    axes.axhspan(random["percentile 25"], random["percentile 75"], color=figures.LIGHT, alpha=0.3, linewidth=0)
    axes.axhline(random["median"], color=figures.GREY, linewidth=0.8, label="all architectures: median, middle half")


def _of(run: Result, selection: str) -> list[dict]:
    """The rows of a selection."""
    return [row for row in run.rows if row["selection"] == selection]


def cells(subject: Subject, options: Options) -> Result:
    """The cells that magnitude and perturbation choose from one supernet (Figures 5, 10 to 24)."""
    subject.require_alphas()
    by_magnitude = magnitude_genotype(subject.space, end_of_search(subject.recorded("edge_weights"))["edge_weights"])
    finished = _finished(subject, "perturbation")
    place = finished or subject.carry_out(subject.selection("perturbation", select__method="perturbation"))
    chosen = {"magnitude": by_magnitude, "perturbation": read_genotype(place)}
    rows, drawn = [], {}
    for selection, genotype in chosen.items():
        for kind, nodes in genotype.cells.items():
            drawn[f"{selection}-{kind}"] = draw.cell(genotype, kind)
            for n, node in enumerate(nodes):
                for operation, source in node:
                    entry = {"selection": selection, "kind": kind, "node": n, "from": source, "operation": operation}
                    rows.append(entry)
    free = {
        selection: {kind: without_parameters(genotype, kind) for kind in plain_kinds(subject.space)}
        for selection, genotype in chosen.items()
    }
    texts = {selection: genotype.text(subject.space.notation) for selection, genotype in chosen.items()}
    numbers = {"genotypes": texts, "operations_without_parameters": free}
    says = "; ".join(
        f"by {selection}: {', '.join(f'{count} in the {kind} cell' for kind, count in counts.items())}"
        for selection, counts in free.items()
    )
    return Result(numbers, rows, f"operations without parameters {says}", drawn)


def tuning(subject: Subject, options: Options) -> Result:
    """Validation accuracy through the operations' selection, perturbation's choices against magnitude's (Figure 6)."""
    subject.require_alphas()
    if not subject.config.select.interval:
        raise ConfigError(f"--run {subject.directory}: its select.interval is 0, so that nothing is tuned")
    methods = {"perturbation": "perturbation", "magnitude": "magnitude_tuned"}
    keys = {"eval__every": 1, "select__race": 0.0}
    checked = {name: subject.selection(by, select__method=by, **keys) for name, by in methods.items()}
    start = end_of_search(subject.metrics).get("valid_accuracy")
    start = subject.accuracy(subject.state) if start is None else start
    rows, places = [], {}
    for name, method in methods.items():
        finished = _finished(subject, method) if subject.config.eval.every == 1 else None
        places[name] = finished or subject.carry_out(checked[name])
    for selection, place in places.items():
        decisions = record.JsonLines(place / "decisions.jsonl").read()
        operations = sum(d["type"] == "operation" for d in decisions)
        rows.append({"selection": selection, "decisions": 0, "tuning_epoch": 0, "valid_accuracy": start})
        for line in record.JsonLines(place / "metrics.jsonl").read():
            if line["stage"] == "select" and line["decisions"] <= operations:
                rows.append({name: line[name] for name in rows[0] if name in line} | {"selection": selection})
    last = {row["selection"]: row["valid_accuracy"] for row in rows}
    ahead = last["perturbation"] - last["magnitude"]
    numbers = {
        "at_the_end_of_the_search": start, "after_the_last_operation": last, "perturbation_less_magnitude": ahead,
    }  # fmt: skip
    after = ", ".join(f"by {selection} {value:.2f} %" for selection, value in last.items())
    says = f"{start:.2f} % before any decision, after the last operation {after}"
    return Result(numbers, rows, says)


def draw_tuning(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """Validation accuracy over the decisions, by selection."""
    figure, (axes,) = figures.panels(title, [("operation decisions", "validation accuracy, %")])
    for colour, selection in zip(figures.COLOURS, ("perturbation", "magnitude"), strict=False):
        points = [[(row["decisions"], row["valid_accuracy"]) for row in _of(run, selection)] for run in runs]
        figures.curve(axes, points, color=colour, label=f"by {selection}")
    axes.legend(frameon=False, fontsize=7)
    figures.whole_numbers(axes)
    return {"tuning": figure}


def interval(subject: Subject, options: Options) -> Result:
    """The architecture chosen with more or fewer epochs of tuning between decisions, looked up (Figure 9)."""
    asked = options.intervals.split(",")
    if not all(text.isdecimal() for text in asked) or len(set(asked)) < len(asked):
        raise ConfigError(f"--intervals is {options.intervals!r}, expected different whole numbers such as 0,1,2,5")
    random, rows = subject.random, []  # refused before any work, if no table has the space
    for epochs in map(int, asked):
        keys = {"select__method": "perturbation", "select__interval": epochs}
        place = subject.carry_out(subject.selection(f"interval{epochs}", **keys))
        rows.append({"interval": epochs, **subject.looked_up(read_genotype(place))})
    lines = table_head("epochs of tuning", *METRICS.values())
    lines += [table_row(row["interval"], *(f"{row[name]:.2f}" for name in METRICS)) for row in rows]
    numbers = {"c10_test_by_epochs": {str(row["interval"]): row["c10_test"] for row in rows}}
    return Result(numbers, rows, "\n".join(lines), context={"random": random})


def draw_interval(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """The accuracies in the table over the epochs of tuning; a panel for each data set."""
    figure, axes = _panels(title, "epochs of tuning", list(METRICS))
    for one, name in zip(axes, METRICS, strict=True):
        points = [[(row["interval"], row[name]) for row in run.rows] for run in runs]
        figures.curve(one, points, "o-", color=figures.COLOURS[0], label="by perturbation")
        _draw_random(one, runs[0].context["random"][name])
        figures.whole_numbers(one)
    figures.legend(figure, axes[0])
    return {"interval": figure}


def _finished(subject: Subject, method: str) -> pathlib.Path | None:
    """The run itself, if its own selection was by that method."""
    select = subject.config.select
    there = (subject.directory / "genotype.json").exists()
    return subject.directory if there and select.method == method and select.orders == 1 else None

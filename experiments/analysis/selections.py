"""Selections from the supernets of one search, side by side (paper, Figures 4 to 6, 8 to 24).

Each is a run directory within the analysis' own, `perturbation-epoch5` and so on, which a repeated command goes on with.
"""

import pathlib

from darts_pt_jax import draw, nasbench201, record
from darts_pt_jax.genotype import Genotype
from experiments.analysis import figures
from experiments.analysis.subject import Options, Result, Subject
from experiments.errors import ConfigError
from experiments.reporting.lines import end_of_search
from experiments.reporting.markdown import table_head, table_row
from experiments.reporting.measures import without_parameters
from experiments.training.network import own

INTERVAL_OPTIONS = {
    "intervals": {"default": "0,1,2,5", "help": "epochs of tuning between decisions, by commas (default: 0,1,2,5)"},
}
METRICS = {"c10_test": "CIFAR-10", "c100_test": "CIFAR-100", "in16_test": "ImageNet16-120"}
assert tuple(METRICS) == nasbench201.SUMMARY


def trajectory(subject: Subject, options: Options) -> Result:
    """Perturbation from every supernet that is kept, magnitude after every epoch if alphas learn, in the table (Figures 4, 8)."""
    medians, rows = subject.medians, []
    for line in subject.searched if subject.config.search.alpha == "learned" else ():
        rows.append({"epoch": line["epoch"], "selection": "magnitude", **_named(subject, subject.magnitude(line))})
    for epoch in subject.kept:
        chosen = own(subject.select(f"perturbation-epoch{epoch}", epoch, select__method="perturbation"))
        rows.append({"epoch": epoch, "selection": "perturbation", **_named(subject, chosen)})
    figure, axes = figures.panels(subject.name, [("epoch", f"{name}, test accuracy, %") for name in METRICS.values()])
    for one, name in zip(axes, METRICS, strict=True):
        for colour, selection in zip(figures.COLOURS, ("magnitude", "perturbation"), strict=False):
            points = [(row["epoch"], row[name]) for row in rows if row["selection"] == selection]
            if points:
                one.plot(*zip(*points, strict=True), ".-", color=colour, label=f"by {selection}")
        one.axhline(medians[name], color=figures.LIGHT, linewidth=0.8, label="median of all")
        figures.whole_numbers(one)
    axes[0].legend(frameon=False, fontsize=6.5)
    end = end_of_search(subject.metrics)["epoch"]
    last = {row["selection"]: row["c10_test"] for row in rows if row["epoch"] == end}
    numbers = {
        "at_the_end_of_the_search": last,
        "median": medians,
    }
    says = ", ".join(f"by {selection} {value:.2f} %" for selection, value in last.items())
    return Result(numbers, rows, {"trajectory": figure}, f"at the end of the search, on CIFAR-10's test set: {says}")


def cells(subject: Subject, options: Options) -> Result:
    """The cells that magnitude and perturbation choose from one supernet (Figures 5, 10 to 24)."""
    subject.require_alphas()
    chosen = {
        "magnitude": subject.magnitude(end_of_search(subject.metrics)),
        "perturbation": own(_perturbed(subject, "perturbation")),
    }
    rows, drawn = [], {}
    for selection, genotype in chosen.items():
        for kind, nodes in genotype.cells.items():
            drawn[f"{kind}_{selection}"] = draw.cell(genotype, kind)
            for n, node in enumerate(nodes):
                for operation, source in node:
                    entry = {"selection": selection, "kind": kind, "node": n, "from": source, "operation": operation}
                    rows.append(entry)
    kinds = [kind for kind, graph in subject.space.cells.items() if not graph.reduction]
    free = {s: {kind: without_parameters(g, kind) for kind in kinds} for s, g in chosen.items()}
    numbers = {
        "genotypes": {selection: g.text(subject.space.notation) for selection, g in chosen.items()},
        "operations_without_parameters": free,
    }
    says = "; ".join(
        f"by {s}: {', '.join(f'{n} in the {kind} cell' for kind, n in of_kind.items())}" for s, of_kind in free.items()
    )
    return Result(numbers, rows, drawn, f"operations without parameters {says}")


def tuning(subject: Subject, options: Options) -> Result:
    """Validation accuracy through the operations' selection, perturbation's choices against magnitude's (Figure 6)."""
    subject.require_alphas()
    if not subject.config.select.interval:
        raise ConfigError(f"--run {subject.directory}: its select.interval is 0, so that nothing is tuned")
    places = {"perturbation": _perturbed(subject, "perturbation"), "magnitude": _perturbed(subject, "magnitude_tuned")}
    rows, start = [], end_of_search(subject.metrics)["valid_accuracy"]
    for selection, place in places.items():
        decisions = record.JsonLines(place / "decisions.jsonl").read()
        operations = sum(d["type"] == "operation" for d in decisions)
        rows.append({"selection": selection, "decisions": 0, "tuning_epoch": 0, "valid_accuracy": start})
        for line in record.JsonLines(place / "metrics.jsonl").read():
            if line["stage"] == "select" and line["decisions"] <= operations and "valid_accuracy" in line:
                rows.append({name: line[name] for name in rows[0] if name in line} | {"selection": selection})
    figure, (axes,) = figures.panels(subject.name, [("operation decisions", "validation accuracy, %")])
    for colour, selection in zip(figures.COLOURS, places, strict=False):
        points = [(row["decisions"], row["valid_accuracy"]) for row in rows if row["selection"] == selection]
        axes.plot(*zip(*points, strict=True), ".-", color=colour, label=f"by {selection}")
    axes.legend(frameon=False, fontsize=7)
    figures.whole_numbers(axes)
    last = {row["selection"]: row["valid_accuracy"] for row in rows}
    numbers = {"at_the_end_of_the_search": start, "after_the_last_operation": last}
    says = ", ".join(f"by {selection} {value:.2f} %" for selection, value in last.items())
    return Result(
        numbers, rows, {"tuning": figure}, f"{start:.2f} % before any decision, after the last operation {says}"
    )


def interval(subject: Subject, options: Options) -> Result:
    """What epochs of tuning between decisions do to the chosen architecture, looked up (Figure 9)."""
    asked = options.intervals.split(",")
    if not all(text.isdecimal() for text in asked) or len(set(asked)) < len(asked):
        raise ConfigError(f"--intervals is {options.intervals!r}, expected different whole numbers such as 0,1,2,5")
    medians, rows = subject.medians, []
    for epochs in map(int, asked):
        place = subject.select(f"interval{epochs}", select__method="perturbation", select__interval=epochs)
        rows.append({"interval": epochs, **_named(subject, own(place))})
    figure, axes = figures.panels(subject.name, [("epochs of tuning", f"{name}, %") for name in METRICS.values()])
    for one, name in zip(axes, METRICS, strict=True):
        one.plot([row["interval"] for row in rows], [row[name] for row in rows], "o-", color=figures.COLOURS[0])
        one.axhline(medians[name], color=figures.LIGHT, linewidth=0.8)
        figures.whole_numbers(one)
    lines = table_head("epochs of tuning", *METRICS.values())
    lines += [table_row(row["interval"], *(f"{row[name]:.2f}" for name in METRICS)) for row in rows]
    return Result({"median": medians}, rows, {"interval": figure}, "\n".join(lines))


def _perturbed(subject: Subject, method: str) -> pathlib.Path:
    """A selection by the config's own keys: the run's own, if that is it, else one within the analysis."""
    select = subject.config.select
    finished = (subject.directory / "genotype.json").exists()
    if select.method == method and select.orders == 1 and finished:
        return subject.directory
    return subject.select(method, select__method=method)


def _named(subject: Subject, genotype: Genotype) -> dict:
    return {"genotype": genotype.text("nasbench201"), **subject.looked_up(genotype)}

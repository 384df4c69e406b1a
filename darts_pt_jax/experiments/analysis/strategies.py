"""Selections by every strategy and criterion from one supernet, side by side, without tuning between decisions.

Strategies decide the edges in one order on the same images, and score all of them; methods that decide at once take images
of their own, or none. Each has a run directory within that of the analysis, such as `keep_one-loss`; a repeated command
continues it.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.selections import METRICS
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.config.rules import unscored
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting import measures
from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.records import RunRecords, learns_alphas
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.selection.strategies import STRATEGIES
from darts_pt_jax.spaces import SearchSpace

OPTIONS = {
    "images": {"type": int, "default": 0, "help": "validation images to score on (default: the run's select.images)"},
    "only": {"default": "", "help": "names of selections with commas between (default: all)"},
}
SELECT = "select decision", *(f"select {name}" for name, method in METHODS.items() if method.selector)
"""The kinds of units that select; the others only begin and end."""


def selections(subject: Subject, options: Options) -> dict[str, Settings]:
    """The selections to compare, by name, all checked.

    Raises:
      ConfigError: --only names an unknown one, or a key of the run does not fit.
    """
    keys = {
        f"{strategy.name}-{criterion}": {"select__strategy": strategy.name, "select__criterion": criterion}
        for strategy in STRATEGIES.values()
        for criterion in (CRITERIA if strategy.masks else ["loss"])
    }
    keys |= {name: {"select__method": name} for name, method in METHODS.items() if method.values}
    if learns_alphas(subject.config):
        keys["magnitude"] = {"select__method": "magnitude"}
    asked = options.only.split(",") if options.only else list(keys)
    if unknown := set(asked) - keys.keys():
        raise ConfigError(f"--only names {', '.join(sorted(unknown))}, expected some of {', '.join(keys)}")
    same = {"select__method": "perturbation", "select__interval": 0, "stages": "select"}
    same |= {"select__images": options.images or subject.config.select.images}
    same |= {key.replace(".", "__"): value for key, value in unscored(subject.config).items()}
    return {name: subject.selection(name, **{**same, **keys[name]}) for name in asked}


def run(subject: Subject, options: Options) -> Result:
    """Choices, agreement, images and seconds of each selection, and its accuracies if the run names a table."""
    chosen = selections(subject, options)
    looked_up = subject.space.notation == "nasbench201" and subject.config.report.nasbench201
    rows, choices = [], {}
    for name, selection in chosen.items():
        found = RunRecords.read(subject.carry_out(selection), selection.config)
        choices[name] = measures.operations(found.decisions)
        phases = found.phases()
        seconds, compiling, images = sum((phases[unit] for unit in SELECT if unit in phases), np.zeros(3))
        (genotype,) = found.genotypes
        about = {"genotype": genotype.text(subject.space.notation)}
        about = subject.looked_up(genotype) if looked_up else about
        rows.append({"selection": name, "images": int(images), "seconds": round(seconds - compiling, 2), **about})
    agreement = {one: {other: measures.agreement(choices[one], choices[other]) for other in choices} for one in choices}
    by_edge = {name: {f"{kind} {edge}": o for (kind, edge), o in of.items()} for name, of in choices.items()}
    context = {"agreement": agreement, "choices": by_edge} | ({"random": subject.random} if looked_up else {})
    numbers = {"agreement_with_others": {name: _with_others(name, agreement) for name in chosen}}
    if looked_up:
        numbers["c10_test"] = {row["selection"]: row["c10_test"] for row in rows}
    drawn = {"choices": _draw_choices(subject.space, choices)}
    return Result(numbers, rows, _table(rows, numbers["agreement_with_others"]), drawn, context)


def _with_others(name: str, agreement: dict) -> float | None:
    """The mean agreement of a selection with the others, in percent; None if there are no others."""
    others = [value for other, value in agreement[name].items() if other != name]
    return float(np.mean(others)) if others else None


def _table(rows: Sequence[dict], agreement: dict) -> str:
    """A row for each selection; `agreement` is its mean over the others."""
    accuracies = {name: says for name, says in METRICS.items() if name in rows[0]}
    head = table_head("selection", "images", "seconds", "agreement, %", *(f"{says}, %" for says in accuracies.values()))
    lines = []
    for row in rows:
        mean = agreement[row["selection"]]
        mean = "" if mean is None else f"{mean:.0f}"
        found = (f"{row[name]:.2f}" for name in accuracies)
        lines.append(table_row(row["selection"], f"{row['images']:,}", f"{row['seconds']:.1f}", mean, *found))
    return "\n".join([*head, *lines])


def _draw_choices(space: SearchSpace, choices: dict) -> Figure:
    """The operation of every edge by every selection, as colours."""
    edges = [(kind, e) for kind, graph in space.cells.items() for e in range(len(graph.edges))]
    names = list(dict.fromkeys(o for kind, e in edges for o in space.cells[kind].edges[e].candidates))
    numbers = [[names.index(of[edge]) for edge in edges] for of in choices.values()]
    colours = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"]
    figure = Figure((6.28, 1.6 + 0.17 * len(choices)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.pcolormesh(numbers, cmap=colours, vmin=-0.5, vmax=colours.N - 0.5, edgecolors="white", linewidth=0.8)
    axes.set_xticks(np.arange(len(edges)) + 0.5, [f"{kind[:1]}{e}" for kind, e in edges], fontsize=6)
    axes.set_xlabel(f"edge ({', '.join(f'{kind[:1]}: {kind} cell' for kind in space.cells)})", fontsize=8)
    _name_rows(axes, list(choices))
    legend = [Patch(color=colours(i), label=name) for i, name in enumerate(names)]
    figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False, fontsize=6.5)
    return figure


def draw(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """The share of edges on which two selections agree; of several runs the mean."""
    matrices = [[list(row.values()) for row in run.context["agreement"].values()] for run in runs]
    names, mean = list(runs[0].context["agreement"]), np.mean(matrices, 0)
    side = 1.5 + 0.38 * len(names)
    figure = Figure((max(side, 3.5), side), dpi=150, layout="constrained")
    figure.suptitle(f"{title}; edges with the same operation, %", fontsize=8, color=figures.GREY)
    axes = figure.add_subplot()
    axes.pcolormesh(mean, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=0.8)
    for (y, x), value in np.ndenumerate(mean):
        ink = "white" if value > 60 else figures.GREY
        axes.text(x + 0.5, y + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=6, color=ink)
    axes.set_xticks(np.arange(len(names)) + 0.5, names, fontsize=6, rotation=90)
    _name_rows(axes, names)
    return {"agreement": figure}


def _name_rows(axes, names: Sequence[str]):
    """Names the rows of a mesh, the first on top."""
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=6)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)

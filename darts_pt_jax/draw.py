"""Figures: the cells of a genotype, and the accuracy over the decisions of a selection.

Each is a plain `matplotlib.figure.Figure`: no pyplot, no display.
"""

import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.bezier import BezierSegment
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from darts_pt_jax import ops
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection.certainty import seen_by
from darts_pt_jax.selection.strategies import strategy_of

COLOURS = ("#1b5e9e", "#b04a10", "#23784b", "#6d3c96")
FAMILIES = dict(zip(("sep_conv", "dil_conv", "nor_conv"), COLOURS, strict=False))
"""Colour by the beginning of an operation's name; other operations with parameters have the last of `COLOURS`."""
INK, GREY, LIGHT = "#222222", "#6a6a6a", "#bdbdbd"
DASHED = (0, (3.5, 1.5))

GAP, STEP, RADIUS, MARGIN = 0.93, 0.3, 0.155, 0.35
"""Inches: between states, between heights of arcs, the radius of a state, around the states."""


def cell(genotype: Genotype, kind: str) -> Figure:
    """One cell: its states on a line from the inputs to the output, every edge an arc that names its operation.

    Operations without parameters at stride 1 are grey and dashed. States that are concatenated to the output have a
    light line to it.

    Raises:
      ValueError: the genotype has no such cell kind, or an operation is not in `ops.OPERATIONS`.
    """
    if kind not in genotype.cells:
        raise ValueError(f"cell kind: got {kind!r}, expected {' or '.join(genotype.cells)}")
    inputs, nodes = genotype.inputs(kind), genotype.cells[kind]
    output = inputs + len(nodes)
    edges = np.array([(source, inputs + n) for n, node in enumerate(nodes) for _, source in node])
    styles = [_style(operation) for operation in genotype.operations(kind)]
    levels = _levels(edges)
    concatenated = sorted(set(genotype.outputs[kind]) - {output - 1})

    below = STEP * min(-1, *levels) - (0.35 if concatenated else 0.05)
    bottom, top = below - 0.4, STEP * max(1, *levels) + 0.3
    figure = Figure((max(GAP * output + 2 * MARGIN, 3.5), top - bottom), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-MARGIN, figure.get_figwidth() - MARGIN), ylim=(bottom, top))
    axes.axis("off")
    _draw_states(axes, inputs, len(nodes))
    for state in concatenated:
        axes.add_patch(_arrow(_detour(state, output, below), LIGHT))
    axes.add_patch(_arrow(Path([(GAP * (output - 1) + RADIUS, 0), (GAP * output - RADIUS, 0)]), LIGHT))
    arcs = _arcs(edges, levels)
    for arc, style in zip(arcs, styles, strict=True):
        axes.add_patch(_arrow(arc, *style))
    _label(axes, arcs, genotype.operations(kind), styles, output + 1)
    _explain(axes, free=(GREY, DASHED) in styles, output="concatenated" if concatenated else "output")
    axes.text(-RADIUS, bottom + 0.11, f"{kind} cell", fontsize=6.5, fontweight="bold", color=INK)
    return figure


def _draw_states(axes: Axes, inputs: int, nodes: int):
    """Draws the states as named circles: inputs, nodes, output."""
    names = [f"$c_{{k-{inputs - i}}}$" for i in range(inputs)] + [str(n) for n in range(nodes)] + ["$c_k$"]
    for state, name in enumerate(names):
        fill = "white" if inputs <= state < inputs + nodes else "#e9e9e9"
        axes.add_patch(Circle((GAP * state, 0), RADIUS, facecolor=fill, edgecolor=INK, zorder=3))
        axes.text(GAP * state, 0, name, ha="center", va="center_baseline", fontsize=7.5, color=INK, zorder=4)


def _explain(axes: Axes, free: bool, output: str):
    """Adds the legend of the lines: with that of operations without parameters if there are any (`free`)."""
    lines = [Line2D([], [], color=LIGHT, linewidth=1.1, label=output)]
    if free:
        label = "no parameters (at stride 1)"
        lines.insert(0, Line2D([], [], color=GREY, linestyle=DASHED, linewidth=1.1, label=label))
    axes.legend(handles=lines, loc="lower right", ncols=2, frameon=False, fontsize=6.5, labelcolor=GREY)


def _style(operation: str) -> tuple:
    """Colour and line style of an operation's arc."""
    if operation not in ops.OPERATIONS:
        raise ValueError(f"operation: got {operation!r}, expected one of {', '.join(ops.OPERATIONS)}")
    if not ops.has_parameters(operation):
        return GREY, DASHED
    return next((c for family, c in FAMILIES.items() if operation.startswith(family)), COLOURS[-1]), "-"


def _levels(edges: np.ndarray) -> np.ndarray:
    """Heights [E] of the arcs of edges [E, 2]: 1, 2, ... above the line of states, -1, -2, ... below it.

    Arcs that overlap have different heights. The sides are chosen so that few arcs cross, overlap, or share an end.
    """
    source, target = edges.T
    overlap = (source[:, None] < target) & (source < target[:, None])
    crossing = overlap & ((source[:, None] - source) * (target[:, None] - target) > 0)
    costs = 20 * crossing + overlap + (target[:, None] == target)
    np.fill_diagonal(costs, 0)
    sides = np.ones(len(edges), int)
    while (gains := sides * (costs @ sides)).max() > 0:
        sides[gains.argmax()] *= -1
    levels = np.zeros(len(edges), int)
    for e in np.argsort(target - source, kind="stable"):
        levels[e] = sides[e] * (1 + abs(levels[overlap[e] & (sides == sides[e])]).max())
    return levels


def _arcs(edges: np.ndarray, levels: np.ndarray) -> list[Path]:
    """Cubic curves of edges [E, 2]. Arcs on one side of a state share its circle: the higher, the nearer to the top."""

    def port(e: int, end: int) -> np.ndarray:
        rivals = levels[(edges[:, end] == edges[e, end]) & (levels * levels[e] > 0)]
        rank = (abs(rivals) > abs(levels[e])).sum()
        angle = np.radians(15 + 55 * (rank + 0.5) / len(rivals))
        return RADIUS * np.array([np.sin(angle) * (1, -1)[end], np.cos(angle) * np.sign(levels[e])])

    arcs = []
    for e, (source, target) in enumerate(edges):
        start, end = port(e, 0), port(e, 1)
        height = STEP * levels[e] + 0.05 * np.sign(levels[e])
        lean = 0.1 * (target - source) ** 0.5
        y = (4 * height - (start[1] + end[1]) / 2) / 3
        x0, x1 = GAP * source, GAP * target
        points = np.array([start, (lean, y), (-lean, y), end])
        points[:, 0] += x0, x0, x1, x1
        arcs.append(Path(points, [Path.MOVETO] + 3 * [Path.CURVE4]))
    return arcs


def _detour(state: int, output: int, y: float) -> Path:
    """From a state down to `y`, along, and up to the output."""
    x0, x1, r = GAP * state, GAP * output, 0.1
    points = [(x0, -RADIUS), (x0, y + r), (x0, y), (x0 + r, y), (x1 - r, y), (x1, y), (x1, y + r), (x1, -RADIUS)]
    corner = [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path(points, [Path.MOVETO, *corner, *corner, Path.LINETO])


def _arrow(path: Path, colour: str, style="-") -> FancyArrowPatch:
    return FancyArrowPatch(
        path=path, arrowstyle="-|>,head_length=3.5,head_width=1.7", color=colour, linestyle=style, linewidth=1.1
    )


def _label(axes: Axes, arcs: list[Path], names: list[str], styles: list[tuple], states: int):
    """Writes each name on its arc, near the middle where arcs, names and states leave room; shortest arcs first."""
    curves = [BezierSegment(arc.vertices)(np.linspace(0, 1, 81)) for arc in arcs]
    taken = [(np.array([GAP * state, 0]), RADIUS) for state in range(states)]
    for e in sorted(range(len(arcs)), key=lambda e: np.ptp(curves[e][:, 0])):
        look = {"ha": "center", "va": "center", "fontsize": 6.5, "color": styles[e][0], "zorder": 5}
        text = axes.text(0, 0, names[e], bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2}, **look)
        extent = text.get_window_extent()
        half = np.array([extent.width, extent.height]) / axes.figure.dpi / 2 + 0.02

        def cost(i, e=e, half=half):
            at = curves[e][i]
            covers = sum((np.abs(where - at) < half + size).all() for where, size in taken)
            crosses = sum((np.abs(curve - at) < half).all(1).sum() for o, curve in enumerate(curves) if o != e)
            return 100 * covers + crosses + abs(i - 40) / 5

        at = curves[e][min(range(15, 66), key=cost)]
        taken.append((at, half))
        text.set_position(at)


MARKS = (
    {"marker": "o", "markersize": 3, "linewidth": 0},
    {"marker": ".", "markersize": 4, "markeredgewidth": 0, "alpha": 0.5, "linewidth": 0},
    {"marker": "_", "markersize": 6, "linewidth": 0},
)
"""The unmasked supernet, every mask, and the mask that decided."""


def accuracy(decisions: Sequence[Mapping], tuning: Sequence[Mapping]) -> Figure:
    """Validation accuracy in percent over the decisions of a selection.

    Each scoring gives a point for the unmasked supernet and a dot for each mask. The deciding mask, of the operation kept
    or of the edge dropped, is marked. The passes of a topology decision stand side by side.

    Args:
      decisions: records of decisions; those without a "baseline" (of methods that look at no images) are left out.
      tuning: records of tuning epochs, with the number of "decisions" taken before; those without "valid_accuracy" are
        left out.

    Raises:
      ValueError: there is neither a baseline nor a "valid_accuracy".
    """
    rows = [row for record in decisions for row in _scorings(record)]
    tuned = [record for record in tuning if "valid_accuracy" in record]
    if not rows and not tuned:
        raise ValueError(
            f"got {len(decisions)} decisions without a baseline, expected one, or a tuning epoch's accuracy"
        )
    figure = Figure((6.28, 3.3), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    axes = figure.add_subplot()
    axes.set_xlabel("decision", fontsize=8)
    axes.set_ylabel("validation accuracy, %", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    legend = _plot_scorings(axes, rows) if rows else []
    if tuned:
        legend += _plot_tuning(axes, tuned)
    _divide(axes, next((record["decision"] for record in decisions if record["type"] == "topology"), 1))
    axes.set_xlim(left=0.5)
    figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False, fontsize=6.5)
    return figure


def _divide(axes: Axes, first: int):
    """Draws a line between the decisions of operations and those of topology, of which the first is number `first`."""
    if first == 1:
        return
    axes.axvline(first - 0.5, color=LIGHT, linewidth=0.8, zorder=0)
    place = (first - 0.5, 1)
    look = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "fontsize": 6.5, "color": GREY}
    axes.annotate("operations", place, (-4, 2), ha="right", **look)
    axes.annotate("topology", place, (4, 2), ha="left", **look)


def _plot_scorings(axes: Axes, rows: Sequence[tuple]) -> list[Line2D]:
    """Plots the rows of `_scorings`; returns the handles of the legend."""
    place, _, _, baseline, _, _ = zip(*rows, strict=True)
    axes.plot(place, baseline, color=GREY, linewidth=0.8, zorder=1)
    colours = dict(zip(dict.fromkeys(row[1] for row in rows), itertools.cycle(COLOURS)))
    legend = {}
    for kind, labels in dict.fromkeys(row[1:3] for row in rows):
        of_both = [row for row in rows if row[1:3] == (kind, labels)]
        place, _, _, baseline, masked, deciding = zip(*of_both, strict=True)
        axes.vlines(place, list(map(min, masked)), list(map(max, masked)), colours[kind], alpha=0.3, linewidth=0.8)
        dots = zip(*((x, y) for x, ys in zip(place, masked, strict=True) for y in ys), strict=True)
        for label, look, points in zip(labels, MARKS, ((place, baseline), dots, (place, deciding)), strict=True):
            axes.plot(*points, color=colours[kind], label=f"{kind}, {label}", **look)
            legend[label] = Line2D([], [], color=GREY, label=label, **look)
    for kind, colour in colours.items():
        legend[kind] = Line2D([], [], color=colour, marker="s", markersize=5, linewidth=0, label=f"{kind} cell")
    return list(legend.values())


def _plot_tuning(axes: Axes, tuned: Sequence[Mapping]) -> list[Line2D]:
    """Plots the accuracy of tuning epochs between the decisions; returns the handles of the legend."""
    after = [record["decisions"] for record in tuned]
    place = [n + 0.3 + 0.4 * (after[:i].count(n) + 1) / (after.count(n) + 1) for i, n in enumerate(after)]
    accuracies = [record["valid_accuracy"] for record in tuned]
    epochs = all(record.get("tuning_epoch", 1) for record in tuned)
    label = f"{'after tuning' if epochs else 'not tuned'}, unaugmented images"
    return axes.plot(place, accuracies, ".:", color=INK, linewidth=1, markersize=3, label=label)


def _scorings(record: Mapping) -> list[tuple]:
    """The scorings of a decision: place, cell kind, labels, accuracy unmasked, under each mask, under the deciding one."""
    passes = [scores for scores in record.get("passes", [record]) if "baseline" in scores]
    rows, strategy = [], strategy_of(record)
    labels = "nothing removed", strategy.after, strategy.decided
    for i, scores in enumerate(passes):
        unmasked = 100 * scores["baseline"]["correct"] / scores["images"]
        masked = [100 * n / seen_by(scores, i)[0] for i, n in enumerate(scores["correct"])]
        deciding = scores["edges"].index(scores["removed"]) if "removed" in scores else record["choice_index"]
        x = record["decision"] + 0.6 * ((i + 0.5) / len(passes) - 0.5)
        rows.append((x, record["kind"], labels, unmasked, masked, masked[deciding]))
    return rows


def save(figure: Figure, path: str | os.PathLike):
    """Writes `path`.svg (text as text) and `path`.png, each in one step; equal figures give equal bytes."""
    path = pathlib.Path(path)
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        file = path.with_name(f"{path.name}.{suffix}")
        temporary = file.with_name(file.name + ".tmp")
        with matplotlib.rc_context({"svg.hashsalt": "darts-pt-jax", "svg.fonttype": "none"}):
            figure.savefig(temporary, format=suffix, metadata=metadata)
        temporary.replace(file)

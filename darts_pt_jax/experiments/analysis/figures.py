"""The parts that the analyses' figures share."""

import collections
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from darts_pt_jax.draw import COLOURS, GREY, LIGHT

__all__ = ["COLOURS", "GREY", "LIGHT", "colour", "curve", "few_ticks", "legend", "panels", "point", "whole_numbers"]


def panels(title: str, labels: Sequence[tuple[str, str]], height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of panels, three in a row, and its axes.

    Args:
      title: above all panels.
      labels: of the axes (x, y) of each panel.
      height: of a single panel, in inches.
    """
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    size = (6.28, height) if len(labels) == 1 else (3.1 * columns, 2.6 * rows)
    figure = Figure(size, dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=8, color=GREY)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for one, (x, y) in zip(axes, labels, strict=False):
        one.set_xlabel(x, fontsize=8)
        one.set_ylabel(y, fontsize=8)
        one.tick_params(labelsize=7)
        one.spines[["top", "right"]].set_visible(False)
    for empty in axes[len(labels) :]:
        empty.remove()
    return figure, axes[: len(labels)]


def colour(place: int) -> str:
    """The colour of the curve at a place, from 0; they repeat."""
    return COLOURS[place % len(COLOURS)]


def legend(figure: Figure, axes: Axes):
    """Puts a legend of what `axes` shows below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 2 + len(figure.axes))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=7)


Points = Sequence[tuple[float, float]]
"""Pairs (x, y) of one run."""


def curve(axes: Axes, runs: Sequence[Points], style: str = ".-", **how) -> Line2D:
    """Draws the mean over the runs, and the range from the smallest to the largest value.

    It leaves out an x that some run lacks. Runs without any point do not count; the label then says how many have some.
    If a run has an x several times, its n-th point there belongs to the n-th of the other runs.

    Args:
      axes: where.
      runs: the points of each run.
      style: of the line, as matplotlib's format.
      how: color and label of the line; the range has the same colour.

    Returns:
      The line, for a legend.
    """
    found = [_numbered(points) for points in runs if points]
    if "label" in how and len(found) < len(runs):
        how["label"] += f" ({len(found)} of {len(runs)} seeds)"
    places = sorted(set.intersection(*map(set, found)))
    values = np.array([[one[place] for place in places] for one in found])
    at, mean = [x for x, _ in places], values.mean(0)
    (line,) = axes.plot(at, mean, style, **how)
    low, high, colour = values.min(0), values.max(0), line.get_color()
    if len(found) > 1 and len(at) > 1:
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
    elif len(found) > 1:  # a band would have no width
        axes.errorbar(at, mean, [mean - low, high - mean], fmt="none", color=colour, elinewidth=0.8)
    return line


def _numbered(points: Points) -> dict[tuple[float, int], float]:
    """y by x and the number of earlier points at that x."""
    found, count = {}, collections.Counter()
    for x, y in points:
        found[x, count[x]] = y
        count[x] += 1
    return found


def point(axes: Axes, points: Points, style: str = "o", **how) -> tuple[float, float]:
    """Draws the mean of the points, with bars from the smallest to the largest x and y of several; returns the mean."""
    mean = np.mean(points, 0)
    bars = np.abs(np.stack([np.min(points, 0), np.max(points, 0)]) - mean) if len(points) > 1 else None
    x_bar, y_bar = (None, None) if bars is None else (bars[:, :1], bars[:, 1:])
    _, _, drawn = axes.errorbar(*mean, y_bar, x_bar, style, markersize=4, elinewidth=0.8, **how)
    for bar in drawn:
        bar.set_alpha(0.5)
    return float(mean[0]), float(mean[1])


def few_ticks(axes: Axes):
    """Limits the ticks of the horizontal axis to what a small panel has room for."""
    axes.xaxis.set_major_locator(MaxNLocator(3))


def whole_numbers(axes: Axes):
    """Puts ticks of the horizontal axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))

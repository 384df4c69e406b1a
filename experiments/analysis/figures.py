"""The parts that the analyses' figures share."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from darts_pt_jax.draw import COLOURS, GREY, LIGHT

__all__ = ["COLOURS", "GREY", "LIGHT", "few_ticks", "panels", "whole_numbers"]


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


def few_ticks(axes: Axes):
    """Limits the ticks of the horizontal axis to what a small panel has room for."""
    axes.xaxis.set_major_locator(MaxNLocator(3))


def whole_numbers(axes: Axes):
    """Puts ticks of the horizontal axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))

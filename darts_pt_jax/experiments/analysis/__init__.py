"""The analyses of the paper, by name: `python -m experiments.analysis NAME --run RUN_DIR [RUN_DIR ...]`."""

import dataclasses
from collections.abc import Callable

from darts_pt_jax.experiments.analysis import (
    alpha_gap,
    collapse,
    curvature,
    selected,
    selections,
    shuffle,
    strategies,
    strength,
    tables,
    variance,
)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
      paper: its place in the paper.
      about: what it does, in a sentence.
      run: `run(subject, options)` gives the `result.Result` of one run.
      draw: `draw(title, results)` gives the figures by file name, of the results of one or several runs.
      options: its own options by name, as argparse takes them.
      whole: whether `run` gets all run directories at once, in place of a subject.
      prepare: `prepare(subjects, options)` checks, before any work, options that name something of one of several runs.
    """

    paper: str
    about: str
    run: Callable
    draw: Callable = lambda title, results: {}
    options: dict[str, dict] = dataclasses.field(default_factory=dict)
    whole: bool = False
    prepare: Callable = lambda subjects, options: None


ANALYSES = {
    "strength": Analysis(
        "Figures 1, 2, 7", "Alphas against accuracy after discretising to an operation.",
        strength.run, strength.draw, strength.OPTIONS,
    ),
    "shuffle": Analysis(
        "Table 1", "Test accuracy after edges, or layers, have changed places.",
        shuffle.run, shuffle.draw, shuffle.OPTIONS,
    ),
    "alpha_gap": Analysis(
        "Figure 3", "skip_connect's weight less the convolutions', against accuracy.", alpha_gap.run, alpha_gap.draw
    ),
    "trajectory": Analysis(
        "Figures 4, 8", "Both selections over the epochs of a search, looked up.",
        selections.trajectory, selections.draw_trajectory, {"selected": selected.OPTION}, prepare=selected.find,
    ),
    "collapse": Analysis(
        "Figure 4", "Edges on which skip_connect has the largest alpha, over the steps of any searches.",
        collapse.run, collapse.draw, whole=True,
    ),
    "cells": Analysis("Figures 5, 10 to 24", "The cells of both selections from one supernet.", selections.cells),
    "tuning": Analysis(
        "Figure 6", "Accuracy through the selection of operations, by both.", selections.tuning, selections.draw_tuning
    ),
    "interval": Analysis(
        "Figure 9", "Epochs of tuning between decisions against the result.",
        selections.interval, selections.draw_interval, selections.INTERVALS,
    ),
    "strategies": Analysis(
        "beyond the paper", "Selections by every strategy and criterion, side by side.",
        strategies.run, strategies.draw, strategies.OPTIONS,
    ),
    "variance": Analysis(
        "Proposition 1", "Optimal alphas from measured variances, against the learned.",
        variance.run, variance.draw, variance.OPTIONS,
    ),
    "curvature": Analysis(
        "section 2", "The Hessian's largest eigenvalue in the alphas.", curvature.run, curvature.draw, curvature.OPTIONS
    ),
    "tables": Analysis(
        "Tables 2 to 5", "Ours beside the paper's, of runs and sweeps.",
        tables.run, tables.draw, tables.OPTIONS, whole=True,
    ),
}  # fmt: skip
"""All analyses."""

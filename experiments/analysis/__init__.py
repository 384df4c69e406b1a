"""The analyses of the paper, by name: `python -m experiments.analysis NAME --run RUN_DIR`."""

import dataclasses
from collections.abc import Callable

from experiments.analysis import alpha_gap, curvature, selections, shuffle, strength, tables, variance


@dataclasses.dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
      paper: its place in the paper.
      about: what it does, in a sentence.
      run: `run(subject, options)` gives a `subject.Result`.
      options: its own options by name, as argparse takes them.
      several: whether it reads several run directories, which `run` then gets in place of a subject.
    """

    paper: str
    about: str
    run: Callable
    options: dict[str, dict] = dataclasses.field(default_factory=dict)
    several: bool = False


ANALYSES = {
    "strength": Analysis(
        "Figures 1, 2, 7", "Alphas against accuracy after discretising to an operation.", strength.run, strength.OPTIONS
    ),
    "shuffle": Analysis(
        "Table 1", "Test accuracy after edges, or layers, have changed places.", shuffle.run, shuffle.OPTIONS
    ),
    "alpha_gap": Analysis("Figure 3", "skip_connect's weight less the convolutions', against accuracy.", alpha_gap.run),
    "trajectory": Analysis(
        "Figures 4, 8", "Both selections over the epochs of a search, looked up.", selections.trajectory
    ),
    "cells": Analysis("Figures 5, 10 to 24", "The cells of both selections from one supernet.", selections.cells),
    "tuning": Analysis("Figure 6", "Accuracy through the selection of operations, by both.", selections.tuning),
    "interval": Analysis(
        "Figure 9", "Epochs of tuning between decisions against the result.", selections.interval, selections.INTERVALS
    ),
    "variance": Analysis(
        "Proposition 1", "Optimal alphas from measured variances, against the learned.", variance.run, variance.OPTIONS
    ),
    "curvature": Analysis(
        "section 2", "The Hessian's largest eigenvalue in the alphas.", curvature.run, curvature.OPTIONS
    ),
    "tables": Analysis(
        "Tables 2 to 5", "Ours beside the paper's, of runs and sweeps.", tables.run, tables.OPTIONS, several=True
    ),
}
"""All analyses."""

"""How much the alphas prefer skip_connect to the convolutions, against the supernet's accuracy (paper, Figure 3)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from darts_pt_jax import ops
from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.measures import correlation
from darts_pt_jax.spaces import SearchSpace


def gap(space: SearchSpace, edge_weights: dict) -> float | None:
    """skip_connect's weight less the mean of the convolutions', averaged over the edges that have both.

    Edges of stride 2, where skip_connect is itself a convolution, do not count.

    Args:
      space: the search space.
      edge_weights: those of a line of metrics, lists [E][O] by cell kind.

    Returns:
      The mean, or None if no edge has both.
    """
    gaps = []
    for kind, graph in space.cells.items():
        for edge, weights in zip(graph.edges, edge_weights[kind], strict=True):
            by_name = dict(zip(edge.candidates, weights, strict=False))
            convolutions = [w for name, w in by_name.items() if ops.is_convolution(name)]
            if "skip_connect" in by_name and convolutions and edge.stride == 1:
                gaps.append(by_name["skip_connect"] - np.mean(convolutions))
    return float(np.mean(gaps)) if gaps else None


def run(subject: Subject, options: Options) -> Result:
    """Over the epochs of the search that were validated."""
    subject.require_alphas()
    space = subject.space
    rows = [
        {"epoch": m["epoch"], "gap": gap(space, m["edge_weights"]), "valid_accuracy": m["valid_accuracy"]}
        for m in subject.recorded("edge_weights", "valid_accuracy")
    ]
    if rows[0]["gap"] is None:
        raise ConfigError(f"--run {subject.directory}: no edge of {space.name} has skip_connect and a convolution")
    gaps, accuracies = ([row[name] for row in rows] for name in ("gap", "valid_accuracy"))
    numbers = {"first_gap": gaps[0], "last_gap": gaps[-1], **correlation(gaps, accuracies)}
    said = "not defined" if numbers["spearman"] is None else f"{numbers['spearman']:.2f}"
    says = (
        f"gap {gaps[0]:.4f} after epoch {rows[0]['epoch']}, {gaps[-1]:.4f} after epoch {rows[-1]['epoch']}; "
        f"rank correlation with the supernet's accuracy over {len(rows)} epochs: {said}"
    )
    return Result(numbers, rows, says, context={"epochs": len(rows)})


def draw(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """Gap and accuracy over the epochs."""
    figure, (axes,) = figures.panels(title, [("epoch", "skip_connect less convolutions, mean weight")])
    other = axes.twinx()
    other.spines["top"].set_visible(False)
    other.tick_params(labelsize=7)
    other.set_ylabel("validation accuracy of the supernet, %", fontsize=8)
    gaps, accuracies = (
        [[(row["epoch"], row[name]) for row in run.rows] for run in runs] for name in ("gap", "valid_accuracy")
    )
    one = figures.curve(axes, gaps, color=figures.COLOURS[0], label="gap of the weights")
    two = figures.curve(other, accuracies, ".--", color=figures.COLOURS[1], label="accuracy")
    figures.whole_numbers(axes)
    figure.legend(handles=[one, two], loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    return {"alpha_gap": figure}

"""Proposition 1 on a supernet: the alphas that estimate the optimal feature map best, against those that were learned.

The edges into a node are taken to estimate one feature map m* (paper, section 3.2). For each edge e with skip_connect,
x_e is the output of skip_connect, and o_e is that of the other candidates, mixed by their weights. m* is the mean of the
mixed outputs of the node's edges. All three are standardised over images and positions, channel by channel. Then
(A.4, equations 16 to 19)

    theta_conv = (Var(x - m*) - Cov) / Z,  theta_skip = (Var(o - m*) - Cov) / Z,  alpha = log theta + C,

where Cov is the covariance of o - m* and x - m*, and Z the sum of both numerators. If a numerator is not positive, its
logarithm does not exist: theta is outside of 0 to 1, and there are no optimal alphas.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from darts_pt_jax.data import batches
from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.measures import correlation, plain_kinds
from darts_pt_jax.spaces import CellGraph

OPTIONS = {"images": {"type": int, "default": 256, "help": "validation images, in one batch (default: 256)"}}

SKIP = "skip_connect"


def run(subject: Subject, options: Options) -> Result:
    """Variances, covariance, optimal and learned weights of each edge of each cell that does not reduce."""
    space, training = subject.space, subject.training
    kinds = [
        kind
        for kind in plain_kinds(space)
        if any(SKIP in edge.candidates and len(set(edge.candidates)) > 1 for edge in space.cells[kind].edges)
    ]
    if not kinds:
        raise ConfigError(
            f"--run {subject.directory}: no edge of {space.name} has skip_connect beside other candidates"
        )
    if not 2 <= options.images <= training.valid.size:
        raise ConfigError(f"--images is {options.images}, expected 2 to {training.valid.size}")
    of_kinds = [i for i, kind in enumerate(space.layout(training.net.cells)) if kind in kinds]
    outputs, weights = _outputs(subject, options.images, of_kinds)
    rows = []
    for i in of_kinds:
        kind = space.layout(training.net.cells)[i]
        of_cell = estimate(space.cells[kind], outputs[i], weights[kind])
        rows += [{"cell": i, "kind": kind, **row} for row in of_cell]
    defined = [row for row in rows if row["alpha_difference"] is not None]
    numbers = {
        "edges": len(rows), "without_optimal_alphas": len(rows) - len(defined),
        "optimal_prefers_skip": sum(row["optimal_skip"] > 0.5 for row in rows),
        "learned_prefers_skip": sum(row["learned_skip"] > 0.5 for row in rows),
        "mean_optimal_skip": float(np.mean([row["optimal_skip"] for row in rows])),
        "mean_learned_skip": float(np.mean([row["learned_skip"] for row in rows])),
        "optimal_against_learned": correlation([r["optimal_skip"] for r in rows], [r["learned_skip"] for r in rows]),
    }  # fmt: skip
    said = numbers["optimal_against_learned"]["spearman"]
    says = (
        f"skip_connect is the better estimate on {numbers['optimal_prefers_skip']} of {len(rows)} edges and has the larger "
        f"learned weight on {numbers['learned_prefers_skip']}; {numbers['without_optimal_alphas']} have no optimal alphas; "
        f"rank correlation {'not defined' if said is None else f'{said:.2f}'}"
    )
    return Result(numbers, rows, says, context={"images": options.images})


def draw(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """Learned against optimal weights of skip_connect, a point for each edge; of several runs the mean and the range.

    A kind of cell has a colour; a cross is an edge that in some run has no optimal alphas.
    """
    of_edge: dict[tuple, list[dict]] = {}
    for row in (row for run in runs for row in run.rows):
        of_edge.setdefault((row["kind"], row["cell"], row["edge"]), []).append(row)
    kinds = list(dict.fromkeys(kind for kind, *_ in of_edge))
    labels = "optimal weight of skip_connect", "learned weight of skip_connect"
    figure, (axes,) = figures.panels(title, [labels])
    for (kind, *_), rows in of_edge.items():
        exists = all(row["alpha_difference"] is not None for row in rows)
        marker, words = ("o", "optimal alphas") if exists else ("x", "no optimal alphas")
        points = [(row["optimal_skip"], row["learned_skip"]) for row in rows]
        figures.point(axes, points, marker, color=figures.colour(kinds.index(kind)), label=f"{kind}, {words}")
    axes.plot((0, 1), (0, 1), color=figures.LIGHT, linewidth=0.8, zorder=0)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once.keys(), frameon=False, fontsize=6.5)
    return {"variance": figure}


def _outputs(subject: Subject, count: int, cells: list[int]) -> tuple[dict, dict]:
    """The outputs of all candidates in some cells on the first `count` validation images, and the edge weights by kind.

    The outputs are a dict by cell and `Group.label`, each a 1-tuple with an array [edges, B, H, W, C].
    """
    training, state = subject.training, subject.state
    weights = training.sampler.weights(subject.space, state.alphas, state.decisions)

    @jax.jit
    def outputs(state, valid, weights, key):
        images, _ = batches.batch(valid, jnp.arange(count), None)
        mutable = ["batch_stats", "intermediates"]
        _, updated = training.net.apply(state.variables, images, weights, True, mutable=mutable, rngs={"noise": key})
        return {i: updated["intermediates"][f"cells_{i}"] for i in cells}

    found = outputs(state, training.valid, weights, subject.key(2))
    return jax.device_get((found, weights))


def estimate(graph: CellGraph, outputs: dict, weights: np.ndarray) -> list[dict]:
    """Variances and optimal weights of the edges of one cell that have skip_connect beside other candidates.

    Args:
      graph: that of the cell.
      outputs: by `Group.label`, a 1-tuple of the outputs [B, H, W, C] on each of its edges.
      weights: edge weights [E, O].
    """
    of_edge = {e: {} for e in range(len(graph.edges))}
    for group in graph.groups:
        for e, o, y in zip(group.edges, group.candidates, outputs[group.label][0], strict=True):
            of_edge[e][o] = np.asarray(y, np.float64)
    mixed = {e: sum(weights[e, o] * y for o, y in of.items()) for e, of in of_edge.items()}
    rows = []
    for node in graph.node_states:
        incoming = graph.incoming(node)
        optimum = _standardised(np.mean([mixed[e] for e in incoming], 0))
        for e in incoming:
            skip = [o for o, name in graph.edges[e].operations if name == SKIP]
            others = [o for o, name in graph.edges[e].operations if name != SKIP]
            if skip and others:
                rest = sum(weights[e, o] * of_edge[e][o] for o in others)
                found = optimal(_standardised(of_edge[e][skip[0]]), _standardised(rest), optimum)
                learned = float(weights[e, skip[0]] / weights[e, skip + others].sum())
                rows.append({"edge": e, **found, "learned_skip": learned})
    return rows


def optimal(x: np.ndarray, o: np.ndarray, m: np.ndarray) -> dict:
    """Equations 16 to 19, for arrays of one shape; `alpha_difference` is the alpha of skip less that of the rest."""
    covariance = np.cov(np.stack([(x - m).ravel(), (o - m).ravel()]))
    var_x, var_o, cov = covariance[0, 0], covariance[1, 1], covariance[0, 1]
    skip, rest = var_o - cov, var_x - cov
    exists = skip > 0 and rest > 0
    return {
        "var_skip": float(var_x), "var_rest": float(var_o), "cov": float(cov),
        "optimal_skip": float(skip / (skip + rest)) if skip + rest else 0.5,
        "alpha_difference": float(np.log(skip) - np.log(rest)) if exists else None,
    }  # fmt: skip


def _standardised(y: np.ndarray) -> np.ndarray:
    """[B, H, W, C] with mean 0 and variance 1 in each channel; a constant channel becomes 0."""
    centred = y - y.mean((0, 1, 2))
    deviation = centred.std((0, 1, 2))
    return centred / np.where(deviation > 0, deviation, 1)

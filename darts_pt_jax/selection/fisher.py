"""How much the channels of each candidate's output differ: the score by which IS-DARTS shrinks (He et al., 2024).

For every image and position of a candidate's output, with mean and standard deviation over the channels, the Fisher
information is the mean over the channels of 3 (x - mean)^2 / deviation^6; it is averaged over images, positions and the
cells of a kind (shrink_metric.py of the authors' code, with the unbiased deviation; where it is not a number, as for
`none`, it counts as infinite). The candidate with the largest information goes. IS-DARTS drops one candidate of each edge
at a time while it trains; here the smallest information decides at once, after the search.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.data import batches
from darts_pt_jax.loops import Begin, Loop
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.selection.slopes import summed
from darts_pt_jax.supernet import Supernet


@flax.struct.dataclass
class Information:
    """Sums over images.

    Attributes:
      loss, correct, images: as in `Metrics`.
      information: the Fisher information [E, O] by cell kind; 0 where there is no candidate.
    """

    loss: Any
    correct: Any
    images: Any
    information: dict[str, Any]

    def sharpness(self) -> dict[str, np.ndarray]:
        """Images over information, [E, O] by cell kind: the largest is kept, and an infinite information gives 0."""
        return {kind: self.images / np.where(rows == 0, np.inf, rows) for kind, rows in self.information.items()}


def of_output(y: jax.Array) -> jax.Array:
    """The Fisher information of an output [B, H, W, C], summed over the images."""
    y = y.astype(jnp.float32)  # in bfloat16, the sixth power is right to a few percent only
    deviation = y.std(-1, ddof=1, keepdims=True)
    values = 3 * (y - y.mean(-1, keepdims=True)) ** 2 / deviation**6
    return jnp.where(jnp.isnan(values), jnp.inf, values).mean((1, 2, 3)).sum()


def make_information(net: Supernet) -> Callable[[dict, EdgeWeights, Any], Information]:
    """A function that gives the information on a batch: `information(variables, edge_weights, batch)`.

    A batch is as in `bilevel.make_evaluate`. It is not augmented, and BatchNorm uses its running statistics.
    """

    def information(variables: dict, edge_weights: EdgeWeights, batch) -> Information:
        dataset, indices, key = batch
        images, labels = batches.batch(dataset, indices, None)
        mutable = ["batch_stats", "intermediates"]
        logits, updated = net.apply(variables, images, edge_weights, False, mutable=mutable, rngs={"noise": key})
        metrics, kinds = Metrics.of_each(logits, labels).sum(), net.space.layout(net.cells)
        found = {kind: jnp.zeros((len(graph.edges), graph.width)) for kind, graph in net.space.cells.items()}
        for i, kind in enumerate(kinds):
            for group in net.space.cells[kind].groups if kind in net.space.cells else ():
                (outputs,) = updated["intermediates"][f"cells_{i}"][group.label]
                for edge, candidate, y in zip(group.edges, group.candidates, outputs, strict=True):
                    found[kind] = found[kind].at[edge, candidate].add(of_output(y) / kinds.count(kind))
        return Information(metrics.loss, metrics.correct, metrics.images, found)

    return information


def sum_information(
    information: Callable[[Any], Information], net: Supernet, batches: Sequence, begin: Begin = Loop, state: Any = None,
    images: int = 0,
) -> Information:  # fmt: skip
    """The information summed over batches; arguments as for `slopes.sum_slopes`."""
    shapes = {kind: (len(graph.edges), graph.width) for kind, graph in net.space.cells.items()}
    zero = np.zeros(())
    first = Information(zero, zero.astype(int), zero.astype(int), {kind: np.zeros(s) for kind, s in shapes.items()})
    return summed(information, batches, begin("information", state, first, len(batches), images))

"""Slopes: what the loss says about all candidates of a cell kind from one backward pass, without masks.

Where a mask m multiplies an edge weight w, the derivative of the loss in m at m = 1 is w dL/dw: the first-order Taylor
estimate of what the removal of the candidate takes from the loss. Its absolute value is the importance of a filter in
Molchanov et al., 2017 ("Pruning convolutional neural networks for resource efficient inference", equation 8), applied to
edge weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.loops import Begin, Loop
from darts_pt_jax.metrics import Evaluate, Metrics


@flax.struct.dataclass
class Slopes:
    """Sums over images.

    Attributes:
      loss, correct, images: as in `Metrics`, of the unmasked supernet.
      slopes: w dL/dw [E, O] of every edge weight, L the sum of the images' cross-entropies.
    """

    loss: Any
    correct: Any
    images: Any
    slopes: Any

    @classmethod
    def zero(cls, shape: tuple[int, ...]) -> "Slopes":
        """Sums over no images, for edge weights of a shape [E, O]."""
        return cls(np.zeros(()), np.zeros((), int), np.zeros((), int), np.zeros(shape))

    def importance(self) -> np.ndarray:
        """|w dL/dw| [E, O] of the mean loss over the images."""
        return np.abs(self.slopes) / self.images


class GetSlopes(Protocol):
    """Gives the slopes of a cell kind."""

    def __call__(self) -> Slopes:
        """Returns the sums over all images."""


def make_slopes(evaluate: Evaluate, kind: str) -> Callable[[Any, EdgeWeights, Any], Slopes]:
    """A function that gives the slopes of one cell kind on a batch: `slopes(variables, edge_weights, batch)`."""

    def slopes(variables: Any, edge_weights: EdgeWeights, batch: Any) -> Slopes:
        def loss(mask):
            logits, labels = evaluate(variables, {**edge_weights, kind: edge_weights[kind] * mask}, batch)
            metrics = Metrics.of_each(logits, labels).sum()
            return metrics.loss, metrics

        gradient, metrics = jax.grad(loss, has_aux=True)(jnp.ones_like(edge_weights[kind]))
        return Slopes(metrics.loss, metrics.correct, metrics.images, gradient)

    return slopes


def sum_slopes(
    slopes: Callable[[Any], Slopes], shape: tuple[int, ...], batches: Sequence, begin: Begin = Loop, state: Any = None,
    images: int = 0,
) -> Slopes:  # fmt: skip
    """The slopes summed over batches.

    Args:
      slopes: the function of `make_slopes` with its first two arguments bound.
      shape: (E, O).
      batches: what to score on.
      begin: begins the loop over the batches.
      state: what the loop saves.
      images: number of images of a batch.

    Raises:
      FloatingPointError: a slope is not finite.
    """
    total = summed(slopes, batches, begin("slopes", state, Slopes.zero(shape), len(batches), images))
    if not np.isfinite(total.slopes).all():
        raise FloatingPointError("slopes: a derivative of the loss is not finite: look at the data")
    return total


def summed(of_batch: Callable[[Any], Any], batches: Sequence, loop: Loop) -> Any:
    """The sum of `of_batch(batch)`, a pytree of arrays, over the batches, which are the steps of the loop."""
    for i in loop:
        loop.total = jax.tree.map(np.add, loop.total, jax.device_get(of_batch(batches[i])))
    return loop.total

"""What the loops of training share: failure explained, metrics summed up."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from darts_pt_jax.metrics import Metrics
from experiments.config.schema import Config


class Diverged(FloatingPointError):
    """A sum over a loop is not finite any more.

    Attributes:
      state, total: what the loop has left; of a `bilevel.guarded` one, what was before the step that did it.
    """

    def __init__(self, message: str, state, total: Metrics):
        """The message names loop and step."""
        super().__init__(message)
        self.state, self.total = state, total


@contextlib.contextmanager
def explained(tensors: Callable[[int, Any], list], batch_size: int, key: str) -> Iterator[None]:
    """If a loop of guarded steps diverges, names the step and the tensor.

    Args:
      tensors: `tensors(i, state)`: arrays, or trees of them, of step `i` from the state before it, by name.
      batch_size: images of a step.
      key: what may be too large.

    Raises:
      FloatingPointError: in place of `Diverged`.
    """
    try:
        yield
    except Diverged as error:
        i = error.total.images.item() // batch_size
        named = tensors(i, error.state)
        repeated = "a loss or gradient was not finite, but is when the step is repeated"
        what = not_finite(named) or too_long(named) or repeated
        raise FloatingPointError(f"training step {i + 1}: {what}: lower {key}, or look at the data") from error


def not_finite(tensors: Sequence) -> str | None:
    """The first of named arrays, or trees of them, that has values that are not finite."""
    for name, tree in tensors:
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            values = np.asarray(leaf, np.float32)
            if bad := np.count_nonzero(~np.isfinite(values)):
                return f"{name}{jax.tree_util.keystr(path)} is not finite in {bad:,} of {values.size:,} values"
    return None


def too_long(tensors: Sequence) -> str | None:
    """The first of named arrays, or trees of them, whose squares overflow in float32, as the norm of a guard does."""
    for name, tree in tensors:
        norm = math.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(tree)))
        if norm >= LONGEST:
            return f"{name}'s norm is {norm:.2g} and overflows, as any above {LONGEST:.2g} does"
    return None


LONGEST = math.sqrt(np.finfo(np.float32).max)
"""The largest norm whose square is a float32."""


def donated(config: Config) -> tuple[int, ...]:
    """Which arguments a step consumes: the state, but not where the search for a NaN runs the step again."""
    return () if config.debug_nans else (0,)


def summary(total: Metrics, name: str) -> dict:
    """Mean loss and accuracy in percent of a total as NAME_loss and NAME_accuracy."""
    loss, correct, images = (x.item() for x in jax.device_get((total.loss, total.correct, total.images)))
    return {f"{name}_loss": loss / images, f"{name}_accuracy": 100 * correct / images}

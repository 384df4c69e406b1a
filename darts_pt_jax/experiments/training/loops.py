"""Shared by the training loops: explanation of failures, summaries of metrics."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.metrics import Metrics


class Diverged(FloatingPointError):
    """A sum over a loop is no longer finite.

    Attributes:
      state, total: the values of the loop; with a `bilevel.guarded` update, the values before the failing step.
    """

    def __init__(self, message: str, state, total: Metrics):
        """`message` names loop and step."""
        super().__init__(message)
        self.state, self.total = state, total


@contextlib.contextmanager
def explained(tensors: Callable[[int, Any], list], batch_size: int, key: str) -> Iterator[None]:
    """Names step and tensor if a loop of guarded steps diverges.

    Args:
      tensors: `tensors(i, state)` gives named arrays, or trees of arrays, of step `i` from the state before it.
      batch_size: images of a step.
      key: the config key whose value may be too large.

    Raises:
      FloatingPointError: replaces `Diverged`.
    """
    try:
        yield
    except Diverged as error:
        i = error.total.images.item() // batch_size
        named = tensors(i, error.state)
        repeated = "a loss or gradient was not finite, but it is finite when the step is repeated"
        what = not_finite(named) or too_long(named) or repeated
        raise FloatingPointError(f"training step {i + 1}: {what}: lower {key}, or look at the data") from error


def not_finite(tensors: Sequence) -> str | None:
    """Describes the first of named arrays, or trees of arrays, with a value that is not finite; None if all are finite."""
    for name, tree in tensors:
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            values = np.asarray(leaf, np.float32)
            if bad := np.count_nonzero(~np.isfinite(values)):
                return f"{name}{jax.tree_util.keystr(path)} is not finite in {bad:,} of {values.size:,} values"
    return None


def too_long(tensors: Sequence) -> str | None:
    """Describes the first of named arrays, or trees of arrays, whose norm overflows in float32; None if none does."""
    for name, tree in tensors:
        norm = math.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(tree)))
        if norm >= LONGEST:
            return f"{name}'s norm is {norm:.2g} and overflows, as any above {LONGEST:.2g} does"
    return None


LONGEST = math.sqrt(np.finfo(np.float32).max)
"""The largest norm whose square is a float32."""


def donated(config: Config) -> tuple[int, ...]:
    """The arguments that a step consumes: the state, unless the search for a NaN must repeat the step."""
    return () if config.debug_nans else (0,)


def donated_to_weights(config: Config, on: Devices) -> tuple[int, ...]:
    """`donated`, of an update of weights: on GPUs none, where a kernel that updates a stack would overwrite what it reads."""
    return () if on.platform == "gpu" else donated(config)


def summary(total: Metrics, name: str) -> dict:
    """Mean loss and accuracy in percent, as NAME_loss and NAME_accuracy."""
    loss, correct, images = (x.item() for x in jax.device_get((total.loss, total.correct, total.images)))
    return {f"{name}_loss": loss / images, f"{name}_accuracy": 100 * correct / images}

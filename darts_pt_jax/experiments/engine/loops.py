"""Loops of a run: they continue where an earlier command stopped, and can save between two steps."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from darts_pt_jax.experiments.engine.timing import Stopwatch
from darts_pt_jax.experiments.training.loops import Diverged
from darts_pt_jax.loops import Loop


class RunLoop(Loop):
    """A loop within the current unit.

    Attributes:
      state, total, images: as in `Loop`; `total` includes the steps of earlier commands.
      name: name of its steps, for the screen.
      steps: number of steps.
    """

    def __init__(self, step_done: Callable, place: dict, name: str, state: Any, total: Any, steps: int, images: int):
        """Begins or continues a loop.

        Args:
          step_done: called as `step_done(loop, watch, done)` after step `done` (from 1); it may save.
          place: how far the loop is, a JSON value that the run keeps: the number of steps `done`, `of` how many, and `sums`.
          name, state, total, steps, images: as for `Loop`.
        """
        super().__init__(name, state, total, steps, images)
        self.name, self.steps = name, steps
        self._step_done, self._place, self._first = step_done, place, total
        leaves = [_restored(*pair) for pair in zip(place["sums"], jax.tree.leaves(total), strict=True)]
        self.total = jax.tree.unflatten(jax.tree.structure(total), leaves)

    def __iter__(self) -> Iterator[int]:
        """The numbers of the remaining steps; the first step of the loop is 0.

        Raises:
          Diverged: a sum over the steps is not finite.
          Interrupted: a signal asked to stop; step and state are saved.
        """
        watch, previous, before = Stopwatch(), self._first, 0
        for i in range(self._place["done"], self.steps):
            yield i
            self.check(i, previous)  # waits for the step before, so that at most two steps are in flight
            watch.images += before  # of the steps before, since this one has only begun
            previous, before = self.total, self.images
            self._step_done(self, watch, self.steps if self._over else i + 1)
            if self._over:
                break
        self.keep(self.steps)

    def check(self, step: int, total: Any):
        """Raises `Diverged` if a sum over the steps so far is not finite."""
        if not np.isfinite(total.loss).all():
            raise Diverged(f"{self.name} step {step}: the loss is not finite: look at the data", self.state, total)

    def keep(self, done: int):
        """Notes the number of finished steps, and their sums."""
        self.check(done, self.total)
        self._place |= {"done": done, "sums": plain(self.total)}

    def measures(self) -> dict:
        """Mean loss and accuracy so far; with several masks, of the first, which is the unmasked supernet."""
        sums = self.total.loss, self.total.correct, self.total.images
        loss, correct, images = (np.ravel(leaf)[0].item() for leaf in sums)
        return {"loss": loss / max(images, 1), "accuracy": 100 * correct / max(images, 1)}


def _restored(values: Any, like: Any) -> Any:
    """`values` as an array on the devices of `like`. A step compiles anew for sums that are elsewhere."""
    array = np.asarray(values, like.dtype)
    return jax.device_put(array, like.sharding) if isinstance(like, jax.Array) else array


def plain(total: Any) -> list:
    """The leaves as numbers and nested lists, which represent float32 and float64 exactly."""
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(total)]

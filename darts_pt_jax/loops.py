"""Loops that hand out their steps one by one, so that a run can save between two steps.

    loop = begin("training", state, total, steps, images)
    for i in loop:
        loop.state, loop.total = step(i, loop.state, loop.total)

`Loop` is the plain form. A run's loop (darts_pt_jax/experiments/engine) continues where an earlier command stopped.
"""

from collections.abc import Iterator
from typing import Any, Protocol


class Loop:
    """A loop over step numbers, with the state and the sums that its steps update.

    Attributes:
      state: a pytree; a run saves it when it is interrupted.
      total: sums over the steps, a pytree of arrays.
      images: number of images that a step runs through a network; it may change from step to step.
    """

    def __init__(self, name: str, state: Any, total: Any, steps: int, images: int = 0):
        """A loop called `name` with `steps` steps; each runs `images` images through a network."""
        self.state, self.total, self.images, self._steps = state, total, images, steps
        self._over = False

    def __iter__(self) -> Iterator[int]:
        """Step numbers from 0."""
        for i in range(self._steps):
            yield i
            if self._over:
                return

    def end(self):
        """Makes the present step the last."""
        self._over = True


class Begin(Protocol):
    """Begins a loop; `Loop` itself is a `Begin`."""

    def __call__(self, name: str, state: Any, total: Any, steps: int, images: int = 0) -> Loop:
        """Arguments as for `Loop`."""

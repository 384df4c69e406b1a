"""Loops whose steps are given out one by one, so that a run can save between two of them.

    loop = begin("training", state, total, steps, images)
    for i in loop:
        loop.state, loop.total = step(i, loop.state, loop.total)

`Loop` is the plain form. That of a run (experiments/engine) begins where an earlier command has stopped.
"""

from collections.abc import Iterator
from typing import Any, Protocol


class Loop:
    """The numbers of the steps, and what goes through them.

    Attributes:
      state: a pytree; a run saves it when it is interrupted.
      total: sums over the steps, a pytree of arrays.
    """

    def __init__(self, name: str, state: Any, total: Any, steps: int, images: int = 0):
        """A loop of `steps` steps, called `name`, each of which takes so many `images` through a network."""
        self.state, self.total, self._steps = state, total, steps

    def __iter__(self) -> Iterator[int]:
        """Step numbers from 0."""
        yield from range(self._steps)


class Begin(Protocol):
    """Begins a loop. `Loop` itself is one."""

    def __call__(self, name: str, state: Any, total: Any, steps: int, images: int = 0) -> Loop:
        """As `Loop`."""

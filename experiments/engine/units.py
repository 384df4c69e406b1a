"""Units of work: what a run consists of."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.supervised import RetrainState

if TYPE_CHECKING:
    from experiments.engine.run import Run

State = SearchState | RetrainState


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of work: `do(run, state)` returns the next state and leaves its records.

    `memory_key` is the config key to lower when the unit runs out of memory.
    """

    stage: str
    type: str
    number: str
    do: Callable[["Run", State], State]
    memory_key: str = "search.batch_size"

    @property
    def name(self) -> str:
        """What the screen calls it."""
        return f"{self.stage} {self.type} {self.number}".strip()

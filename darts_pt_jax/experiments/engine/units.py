"""Units of work: what a run consists of."""

import dataclasses
from collections.abc import Callable
from typing import Any

from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.supervised import RetrainState

State = SearchState | RetrainState


Do = Callable[[Any, State], State]
"""Carries out a unit: `do(run, state)` returns the state after it, and writes its records through `run` (`run.Run`)."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of work.

    Attributes:
      stage: "search", "select" or "retrain".
      type: kind of work, such as "epoch".
      number: which unit of its type it is, for the screen.
      do: carries it out.
      memory_key: the config key to lower when the unit runs out of memory.
      brief: whether it takes no time to speak of.
    """

    stage: str
    type: str
    number: str
    do: Do
    memory_key: str = "search.batch_size"
    brief: bool = False

    @property
    def name(self) -> str:
        """Its name on the screen."""
        return f"{self.stage} {self.type} {self.number}".strip()

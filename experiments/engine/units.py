"""Units of work: what a run consists of."""

import dataclasses
from collections.abc import Callable
from typing import Any

from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.supervised import RetrainState

State = SearchState | RetrainState


Do = Callable[[Any, State], State]
"""Carries out a unit: takes the `run.Run`, by which it leaves its records, and the state; returns the state after it."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of work.

    Attributes:
      stage: "search", "select" or "retrain".
      type: what kind of work it is, such as "epoch".
      number: which of its kind, for the screen.
      do: carries it out.
      memory_key: the config key to lower when the unit runs out of memory.
    """

    stage: str
    type: str
    number: str
    do: Do
    memory_key: str = "search.batch_size"

    @property
    def name(self) -> str:
        """What the screen calls it."""
        return f"{self.stage} {self.type} {self.number}".strip()

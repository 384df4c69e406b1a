"""How long a command will still take, by the units that are done, without compilation."""

import collections
import statistics
from collections.abc import Iterable, Sequence

from darts_pt_jax.experiments.engine.timing import Stopwatch
from darts_pt_jax.experiments.engine.units import Unit

RECENT = 3
"""A unit is expected to take the mean time of so many of its kind, the last ones: later units have fewer candidates."""


class TimeLeft:
    """Estimates the time until some units are done. Units of one stage and type are of one kind."""

    def __init__(self, units: Sequence[Unit], timings: Iterable[dict]):
        """Takes the `units` to do, and the lines of timings.jsonl that earlier commands have left."""
        self._waiting = collections.Counter(_kind(unit) for unit in units if not unit.brief)
        self._known = collections.defaultdict(lambda: collections.deque(maxlen=RECENT))
        parts = set()
        for line in timings:
            one = line["stage"], line["type"], line["number"]
            if not line["finished"]:
                parts.add(one)
            elif one not in parts:
                self._known[one[:2]].append(line["seconds"] - line["compile_seconds"])

    def begin(self, unit: Unit, whole: bool):
        """A unit begins; it is not `whole` if an earlier command has done a part of it."""
        self._unit, self._whole, self._watch = unit, whole, Stopwatch()
        self._waiting[_kind(unit)] -= not unit.brief

    def end(self):
        """The unit is done."""
        if self._whole:
            self._known[_kind(self._unit)].append(self._spent())

    def seconds(self, of_loop: float) -> tuple[float, bool]:
        """Seconds until all units are done, and whether that includes all: a kind without a finished unit is unknown.

        Args:
          of_loop: seconds left of the present loop of the unit.
        """
        each = {kind: statistics.mean(seconds) for kind, seconds in self._known.items() if seconds}
        here = _kind(self._unit)
        complete = here in each
        each.setdefault(here, self._spent() + of_loop)
        left = max(of_loop, each[here] - self._spent()) if self._whole else of_loop
        for kind, count in (+self._waiting).items():
            complete &= kind in each
            left += count * each.get(kind, 0.0)
        return left, complete

    def _spent(self) -> float:
        return self._watch.seconds - self._watch.compile_seconds


def _kind(unit: Unit) -> tuple[str, str]:
    return unit.stage, unit.type

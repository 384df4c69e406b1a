"""Which run is next, and which is tried again."""

import collections
import pathlib
import time
from collections.abc import Callable, Sequence

from darts_pt_jax.experiments.engine.interrupts import Interrupted, Interrupts
from darts_pt_jax.experiments.launching.base import Launcher, Run

_POLL = 0.5
"""Seconds between two looks at the runs."""


def carry_out(
    runs: Sequence[Run], launcher: Launcher, retries: int, stop: Interrupts, say: Callable[[str], None]
) -> dict[pathlib.Path, str]:
    """Carries out runs, each after the one that it needs.

    Args:
      runs: in this order, as far as the launcher has room.
      launcher: carries them out.
      retries: how often a run that was killed or failed is tried again; one with a wrong setting or wrong data is not.
      stop: the signals that may interrupt.
      say: shows a line.

    Returns:
      The reasons of the runs that failed, by run directory.

    Raises:
      Interrupted: a signal asked to stop, and the runs have ended; or it came again.
    """
    queue = _Queue(runs, launcher, retries, say)
    stop.saves = launcher.remote  # else a signal goes to the run at once
    try:
        while (queue.waiting or queue.running) and not stop.received:
            begun = queue.begin_next()
            queue.collect()
            if queue.running and not begun:
                time.sleep(_POLL)
        if stop.received:
            queue.stop()
            queue.wait()
    finally:
        stop.saves = False
        queue.stop()  # after a second signal, or where the launcher failed, some still run
    if stop.received:
        raise Interrupted(stop.received, "and so are its runs: the same command continues from their last checkpoints")
    return queue.failed


class _Queue:
    """Runs that wait, run, or failed."""

    def __init__(self, runs: Sequence[Run], launcher: Launcher, retries: int, say: Callable[[str], None]):
        self.waiting, self.running, self.failed = list(runs), [], {}
        self._launcher, self._retries, self._say = launcher, retries, say
        self._tries = collections.Counter()

    def begin_next(self) -> bool:
        """Submits the next run whose supernet is ready, or gives it up if the run that trains that failed."""
        unfinished = {run.workdir for run in (*self.waiting, *self.running)}
        run = next((run for run in self.waiting if run.needs not in unfinished), None)
        if run is None:
            return False
        self.waiting.remove(run)
        if run.needs in self.failed:
            self.failed[run.workdir] = f"needs {run.needs.name}"
            return True
        self._say(f"{run.workdir}: {' '.join(run.command[2:])}")
        self._tries[run] += 1
        self._launcher.submit(run)
        self.running.append(run)
        return True

    def collect(self):
        """Takes the runs that have ended: done, failed, or to be tried again before all others."""
        for run in list(self.running):
            outcome = self._launcher.outcome(run)
            if outcome is None:
                continue
            self.running.remove(run)
            why = f"exit code {outcome}" if isinstance(outcome, int) else outcome
            why += f", see {run.log}" * self._launcher.remote
            if outcome == 0:
                self._say(f"{run.workdir}: done")
            elif outcome == 2 or self._tries[run] > self._retries:
                self.failed[run.workdir] = why
            else:
                tries = f"({self._tries[run]} of {self._retries})"
                self._say(f"{run.workdir}: {why}: trying again from its last checkpoint {tries}")
                self.waiting.insert(0, run)

    def stop(self):
        """Asks all that run to save and end."""
        for run in self.running:
            self._launcher.stop(run)

    def wait(self):
        """Waits until no run is left."""
        while self.running:
            self.running = [run for run in self.running if self._launcher.outcome(run) is None]
            if self.running:
                time.sleep(_POLL)

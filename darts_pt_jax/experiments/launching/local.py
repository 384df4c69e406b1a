"""Runs on this machine."""

from typing import ClassVar

from darts_pt_jax.experiments.launching.base import Launcher, Run
from darts_pt_jax.experiments.launching.process import execute


class Local(Launcher):
    """One after the other, as processes of this machine that write on the screen."""

    about: ClassVar = "one run after the other on this machine (the default)"
    takes: ClassVar = ""
    remote: ClassVar = False

    def __init__(self, *_):
        """Takes no options."""
        self._codes: dict[Run, int] = {}

    def submit(self, run: Run):
        """Carries it out."""
        self._codes[run] = execute(run)

    def outcome(self, run: Run) -> int:
        """Its exit code."""
        return self._codes[run]

    def stop(self, run: Run):
        """Does nothing: a signal ends `submit`."""

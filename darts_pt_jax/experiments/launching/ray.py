"""Runs as tasks of Ray."""

import importlib
import os
import signal
import warnings
from typing import Any, ClassVar

from darts_pt_jax.experiments.engine.interrupts import exit_code
from darts_pt_jax.experiments.launching.base import Launcher, Run
from darts_pt_jax.experiments.launching.process import execute_remotely


class Ray(Launcher):
    """Tasks of the Ray at `address`, or else of one that is started on this machine for the length of the sweep."""

    about: ClassVar = "every run is a task of Ray"
    takes: ClassVar = "an option of ray.remote (num_cpus=4, num_gpus=1), or address=HOST:PORT of a Ray that runs"
    remote: ClassVar = True

    def __init__(self, given: dict[str, Any], *_):
        """Takes the options of `ray.remote`, and `address`."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them to its makers
        self._ray = importlib.import_module("ray")
        task = {"max_retries": 0, **{k: v for k, v in given.items() if k != "address"}}
        self._task = self._ray.remote(carry_out_as_task).options(**task)
        handler = signal.getsignal(signal.SIGTERM)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # jax's: Ray's processes need no threads of it
            self._ray.init(given.get("address"), include_dashboard=False)
        signal.signal(signal.SIGTERM, handler)  # in place of Ray's
        self._refs: dict[Run, Any] = {}

    def submit(self, run: Run):
        """Has it carried out as a task."""
        self._refs[run] = self._task.remote(run, os.getcwd())

    def outcome(self, run: Run) -> int | str | None:
        """Its exit code, or what Ray says of a task that ended without one; None while it runs."""
        if not self._ray.wait([self._refs[run]], timeout=0)[0]:
            return None
        try:
            return self._ray.get(self._refs[run])
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            return lines[-1 if isinstance(error, self._ray.exceptions.RayTaskError) else 0]

    def stop(self, run: Run):
        """Asks it to save and end; one that has not begun does not begin."""
        self._ray.cancel(self._refs[run])


def carry_out_as_task(run: Run, folder: str) -> int:
    """A run on the machine of a worker; its exit code."""
    return exit_code(lambda _: execute_remotely(run, folder))

"""Runs as jobs of Slurm, by submitit."""

import contextlib
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from darts_pt_jax import record
from darts_pt_jax.experiments.engine.interrupts import exit_code
from darts_pt_jax.experiments.launching.base import Launcher, LauncherError, Run
from darts_pt_jax.experiments.launching.process import execute_remotely

DEFAULTS = {"timeout_min": 240}
"""Options of a job. After `timeout_min` the run is saved and the job requeued; submitit's default is five minutes."""

_LATE = 15.0
"""Seconds after which a file that another machine wrote is seen here."""


class Slurm(Launcher):
    """Jobs of Slurm; with cluster=local, processes of this machine in their place, all at once."""

    about: ClassVar = "every run is a job of Slurm, by submitit"
    takes: ClassVar = (
        "a parameter of submitit's AutoExecutor (slurm_partition=gpu, gpus_per_node=1, timeout_min=240), or "
        "cluster=local: processes of this machine, all at once, in place of jobs"
    )
    remote: ClassVar = True

    def __init__(self, given: dict[str, Any], workdir: pathlib.Path, say: Callable[[str], None]):
        """Takes the parameters of `submitit.AutoExecutor`, and `cluster`."""
        self._submitit, self._say = importlib.import_module("submitit"), say
        jobs = {"slurm": self._submitit.SlurmJob, "local": self._submitit.LocalJob}
        self._cluster = given.get("cluster", "slurm")
        if self._cluster not in jobs:
            raise ValueError(f"cluster is {self._cluster!r}, expected one of {', '.join(jobs)}")
        self._job, self._folder = jobs[self._cluster], workdir.absolute() / "jobs"
        self._executor = self._submitit.AutoExecutor(self._folder, cluster=self._cluster)
        parameters = {**DEFAULTS, "name": workdir.name, **given}
        self._executor.update_parameters(**{k: v for k, v in parameters.items() if k != "cluster"})
        self._jobs: dict[Run, Any] = {}
        self._given_up: dict[Run, float] = {}  # when, for runs that have ended without a result

    def submit(self, run: Run):
        """Submits the run as a job, or finds the job that a killed sweep left.

        Raises:
          LauncherError: Slurm refuses the first one, and so all.
        """
        note = self._note(run)
        self._given_up.pop(run, None)
        if note.exists():
            job = self._job(self._folder, note.read_text())
            if not job.done(force_check=True):
                self._jobs[run] = job
                self._say(f"{run.workdir}: an earlier sweep has submitted it as job {job.job_id}")
                return
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a terminal's Ctrl-C is for the sweep alone
        try:
            self._jobs[run] = job = self._executor.submit(Job(run, os.getcwd(), self._cluster))
        except RuntimeError as error:
            if not self._jobs:
                raise LauncherError(f"--launcher=slurm: {error}") from error
            self._jobs[run] = f"not submitted: {error}"
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        record.write_text(note, job.job_id)
        self._say(f"{run.workdir}: job {job.job_id}")

    def outcome(self, run: Run) -> int | str | None:
        """Its exit code, or the state of a job that ended without one; None while it runs."""
        job = self._jobs[run]
        if isinstance(job, str):
            return job
        if not job.done():
            return None
        result = job.paths.result_pickle.exists()
        if not result and time.monotonic() < self._given_up.setdefault(run, time.monotonic() + _LATE):
            return None
        self._note(run).unlink(missing_ok=True)
        if result and not job.exception():
            return job.result()
        if self._cluster == "slurm":
            job.cancel(check=False)  # if Slurm were to requeue it, there would be two
        return f"job {job.job_id} {job.state} without a result, see {job.paths.stderr}"

    def stop(self, run: Run):
        """Asks it to save and end."""
        job = self._jobs[run]
        self._given_up[run] = 0.0
        if self._cluster == "slurm":
            job.cancel(check=False)
            job.watcher.register_job(job.job_id)  # looks after it at short intervals again
        else:  # `cancel` would leave it a second
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)

    def _note(self, run: Run) -> pathlib.Path:
        """The file that keeps the number of its job while the job runs."""
        return self._folder / f"{run.workdir.name}.job"


class Job:
    """A run as submitit carries it out, on a machine of Slurm or as a process of this one."""

    def __init__(self, run: Run, folder: str, cluster: str):
        """Binds a run to a folder and a cluster, "slurm" or "local"."""
        self._run, self._folder, self._cluster, self._process = run, folder, cluster, None

    def __call__(self) -> int:
        """Carries it out; the exit code of the run."""
        if self._cluster == "local":
            return exit_code(lambda _: self._execute())
        code = self._execute()  # Slurm itself gives its signals to the run too
        if code == 128 + signal.SIGTERM:
            sys.exit(code)  # without a result: Slurm says what becomes of a job that it stopped
        return code

    def _execute(self) -> int:
        return execute_remotely(self._run, self._folder, self._keep)

    def _keep(self, process: subprocess.Popen):
        self._process = process

    def checkpoint(self):
        """Saves a run whose time is over or which has to make room; submitit requeues the job that this returns."""
        from submitit.helpers import DelayedSubmission

        if self._process:
            self._process.terminate()
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # `poll` may stand still below
        return DelayedSubmission(Job(self._run, self._folder, self._cluster))

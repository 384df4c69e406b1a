"""Where the runs of a sweep are carried out: on this machine, as jobs of Slurm (submitit), or as tasks of Ray.

A launcher submits a run, knows what has become of it, and stops it; `carry_out` says which is next, and which is tried
again. What a worker imports is light: jax is for the process of the run.
"""

import ast
import collections
import contextlib
import ctypes
import dataclasses
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol

from darts_pt_jax import record
from experiments.engine.interrupts import Interrupted, Interrupts, exit_code
from experiments.engine.locks import locked, sign

LAUNCHERS = ("local", "slurm", "ray")

DEFAULTS = {"timeout_min": 240}
"""Of a job of Slurm, of which submitit would make five minutes. At its end the run is saved, and the job requeued."""

_POLL = 0.5
_LATE = 15.0
"""Seconds after which a file that another machine has written is seen here."""

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class LauncherError(ValueError):
    """A launcher cannot do what was asked of it; the message is one line. The sweep exits with code 2."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a sweep.

    Attributes:
      workdir: its run directory.
      command: carries it out, or goes on with it; exits with the codes of `experiments.main`.
      needs: the run directory that it takes its supernet from, if any.
    """

    workdir: pathlib.Path
    command: tuple[str, ...]
    needs: pathlib.Path | None = None

    @property
    def log(self) -> pathlib.Path:
        """Where its output goes, if not to the screen."""
        return self.workdir.with_name(f"{self.workdir.name}.log")


class Launcher(Protocol):
    """One way to carry out runs.

    Attributes:
      remote: whether `submit` returns at once, and the output goes to the run's log.
    """

    remote: bool

    def submit(self, run: Run):
        """Has it carried out."""

    def outcome(self, run: Run) -> int | str | None:
        """Its exit code, or what has become of its worker; None if it has not ended."""

    def stop(self, run: Run):
        """Asks it to save and end."""


def options(given: Sequence[str]) -> dict[str, Any]:
    """Reads KEY=VALUE, the value as Python writes it, or else as text.

    Raises:
      LauncherError: that is not what stands there, or a key stands there twice.
    """
    read = {}
    for option in given:
        key, equals, value = option.partition("=")
        if not (key.isidentifier() and equals):
            raise LauncherError(f"--launcher-option is {option!r}, expected KEY=VALUE such as num_gpus=1")
        if key in read:
            raise LauncherError(f"--launcher-option gives {key} twice")
        read[key] = value
        with contextlib.suppress(ValueError, SyntaxError):
            read[key] = ast.literal_eval(value)
    return read


def launcher(name: str, given: dict[str, Any], workdir: pathlib.Path, say: Callable[[str], None]) -> Launcher:
    """The launcher of that name.

    Args:
      name: one of `LAUNCHERS`.
      given: the options that it hands on to its engine.
      workdir: of the sweep.
      say: shows a line.

    Raises:
      LauncherError: its package is missing, or an option is wrong.
    """
    try:
        return {"local": Local, "slurm": Slurm, "ray": Ray}[name](given, workdir, say)
    except ModuleNotFoundError as error:
        raise LauncherError(f"--launcher={name} needs {error.name}: pip install -e '.[{name}]'") from error
    except (ValueError, TypeError, NameError, AssertionError, RuntimeError, OSError) as error:  # the engine's
        asked = ", ".join(f"{key}={value}" for key, value in given.items()) or "no options"
        raise LauncherError(f"--launcher={name} with {asked}: {error}") from error


def carry_out(
    runs: Sequence[Run], launcher: Launcher, retries: int, stop: Interrupts, say: Callable[[str], None]
) -> dict[pathlib.Path, str]:
    """Carries out runs, each after the one that it needs.

    Args:
      runs: in this order, as far as the launcher has room.
      launcher: carries them out.
      retries: how often a run is tried again that was killed or failed, unless a setting or the data is wrong.
      stop: the signals that may interrupt.
      say: shows a line.

    Returns:
      What has failed, by run directory, with the reason.

    Raises:
      Interrupted: a signal asked to stop, and the runs have ended; or it came again.
    """
    waiting, running, failed = list(runs), [], {}
    tries = collections.Counter()
    stop.saves = launcher.remote  # here a signal goes to the run at once
    try:
        while (waiting or running) and not stop.received:
            unfinished = {run.workdir for run in (*waiting, *running)}
            begun = next((run for run in waiting if run.needs not in unfinished), None)
            if begun:
                waiting.remove(begun)
                if begun.needs in failed:
                    failed[begun.workdir] = f"needs {begun.needs.name}"
                    continue
                say(f"{begun.workdir}: {' '.join(begun.command[2:])}")
                tries[begun] += 1
                launcher.submit(begun)
                running.append(begun)
            for run in list(running):
                if (outcome := launcher.outcome(run)) is None:
                    continue
                running.remove(run)
                why = f"exit code {outcome}" if isinstance(outcome, int) else outcome
                why += f", see {run.log}" * launcher.remote
                if outcome == 0:
                    say(f"{run.workdir}: done")
                elif outcome == 2 or tries[run] > retries:
                    failed[run.workdir] = why
                else:
                    say(f"{run.workdir}: {why}: trying again from its last checkpoint ({tries[run]} of {retries})")
                    waiting.insert(0, run)
            if running and not begun:
                time.sleep(_POLL)
        if stop.received:
            for run in running:
                launcher.stop(run)
            while running := [run for run in running if launcher.outcome(run) is None]:
                time.sleep(_POLL)
    finally:
        stop.saves = False
        for run in running:  # after a second signal, or where the launcher has failed
            launcher.stop(run)
    if stop.received:
        raise Interrupted(stop.received, "and so are its runs: the same command goes on from their last checkpoints")
    return failed


def execute(
    run: Run, log: IO[str] | None = None, began: Callable[[subprocess.Popen], None] = lambda _: None, **how
) -> int:
    """Runs one command as a process of its own, after one that an earlier sweep has left.

    Args:
      run: the command.
      log: where its output goes; None: to the screen.
      began: is given the process.
      **how: what else `subprocess.Popen` is told.

    Returns:
      The exit code, negative where a signal has killed it.

    Raises:
      Interrupted: a signal asked to stop; the process has had it too, and is done.
    """
    waiting = lambda owner: print(f"waiting for {owner}, which works on {run.workdir}", file=log, flush=True)  # noqa: E731
    with locked(run.workdir.with_name(f"{run.workdir.name}.lock"), waiting) as lock:
        process = subprocess.Popen(  # which keeps the lock if it is left alone
            run.command, start_new_session=True, pass_fds=[lock.fileno()], stdout=log, stderr=log, **how
        )
        sign(lock, process.pid)
        began(process)
        stopped = None
        while True:
            try:
                while (code := process.poll()) is None:  # Ray interrupts Python, but no system call
                    time.sleep(0.1)
            except Interrupted as received:  # the first asks the run to save, a second ends it
                stopped = received
                process.send_signal(received.signal)
                continue
            if stopped:
                raise stopped
            return code


class Local:
    """One after the other, as processes of this machine that write on the screen."""

    remote = False

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
        """Nothing: a signal ends `submit`."""


def _execute_remotely(run: Run, folder: str, began: Callable[[subprocess.Popen], None] = lambda _: None) -> int:
    """`execute` on the machine of a worker, in the folder of the sweep; the run ends with the worker."""
    with contextlib.chdir(folder), run.log.open("a") as log:
        return execute(run, log, began, preexec_fn=_tie)


def _tie():
    """What a run does before it begins: it is killed with its worker, and leaves Slurm's signal to submitit, no others."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})


class Job:
    """A run as submitit carries it out on a machine of Slurm, or as a process of this one."""

    def __init__(self, run: Run, folder: str, cluster: str):
        """Of a run, in a folder, on a cluster: "slurm" or "local"."""
        self._run, self._folder, self._cluster, self._process = run, folder, cluster, None

    def __call__(self) -> int:
        """The exit code of the run."""
        if self._cluster == "local":
            return exit_code(lambda _: self._execute())
        code = self._execute()  # Slurm itself gives its signals to the run too
        if code == 128 + signal.SIGTERM:
            sys.exit(code)  # without a result: what becomes of a job that it has stopped is Slurm's to say
        return code

    def _execute(self) -> int:
        return _execute_remotely(self._run, self._folder, lambda process: setattr(self, "_process", process))

    def checkpoint(self):
        """Saves the run, whose time is over or which has to make room, and says how it goes on: submitit requeues it."""
        from submitit.helpers import DelayedSubmission

        if self._process:
            self._process.terminate()
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # `poll` may stand still below
        return DelayedSubmission(Job(self._run, self._folder, self._cluster))


class Slurm:
    """Jobs of Slurm by submitit; with cluster=local, processes of this machine in their place, all at once."""

    remote = True

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
        self._given_up: dict[Run, float] = {}  # when, of those that have ended without a result

    def _note(self, run: Run) -> pathlib.Path:
        """Where the number of its job is kept while it goes on."""
        return self._folder / f"{run.workdir.name}.job"

    def submit(self, run: Run):
        """Has it carried out as a job, or finds the one that an earlier sweep, which was killed, has left.

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
        """Its exit code, or the state of a job that has ended without one; None if it goes on."""
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


def carry_out_as_task(run: Run, folder: str) -> int:
    """A run as Ray carries it out; the exit code."""
    return exit_code(lambda _: _execute_remotely(run, folder))


class Ray:
    """Tasks of a Ray that runs at `address`, or else is started on this machine for as long as the sweep goes on."""

    remote = True

    def __init__(self, given: dict[str, Any], *_):
        """Takes the options of `ray.remote`, and `address`."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them to its makers
        self._ray = importlib.import_module("ray")
        task = {"max_retries": 0, **{k: v for k, v in given.items() if k != "address"}}
        self._task = self._ray.remote(carry_out_as_task).options(**task)
        handler = signal.getsignal(signal.SIGTERM)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "os.fork", RuntimeWarning
            )  # jax's, whose threads Ray's processes need not
            self._ray.init(given.get("address"), include_dashboard=False)
        signal.signal(signal.SIGTERM, handler)  # in place of Ray's
        self._refs: dict[Run, Any] = {}

    def submit(self, run: Run):
        """Has it carried out as a task."""
        self._refs[run] = self._task.remote(run, os.getcwd())

    def outcome(self, run: Run) -> int | str | None:
        """Its exit code, or what Ray says of a task that has ended without one; None if it goes on."""
        if not self._ray.wait([self._refs[run]], timeout=0)[0]:
            return None
        try:
            return self._ray.get(self._refs[run])
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            return lines[-1 if isinstance(error, self._ray.exceptions.RayTaskError) else 0]

    def stop(self, run: Run):
        """Asks it to save and end; one that has not begun does not."""
        self._ray.cancel(self._refs[run])

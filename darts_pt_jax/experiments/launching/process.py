"""A run as a process of its own."""

import contextlib
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

from darts_pt_jax.experiments.engine.interrupts import Interrupted
from darts_pt_jax.experiments.engine.locks import locked
from darts_pt_jax.experiments.launching.base import Run

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def execute(
    run: Run, log: IO[str] | None = None, began: Callable[[subprocess.Popen], None] = lambda _: None, **how
) -> int:
    """Runs one command as a process of its own, once the process that an earlier sweep left has ended.

    Args:
      run: the command.
      log: where its output goes; None: to the screen.
      began: is given the process.
      **how: further arguments of `subprocess.Popen`.

    Returns:
      The exit code, negative where a signal killed it.

    Raises:
      Interrupted: a signal asked to stop; the process has had it too, and has ended.
    """

    def waiting(owner: str):
        print(f"waiting for {owner}, which works on {run.workdir}", file=log, flush=True)

    with locked(run.lock, waiting) as lock:
        process = subprocess.Popen(  # which keeps the lock if it is left alone
            run.command, start_new_session=True, pass_fds=[lock.fileno()], stdout=log, stderr=log, **how
        )
        lock.sign(process.pid)
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


def execute_remotely(run: Run, folder: str, began: Callable[[subprocess.Popen], None] = lambda _: None) -> int:
    """`execute` on the machine of a worker, in the folder of the sweep; the run ends with the worker."""
    with contextlib.chdir(folder), run.log.open("a") as log:
        return execute(run, log, began, preexec_fn=_tie_to_worker)


def _tie_to_worker():
    """Before a run begins: has it killed when its worker dies, and blocks submitit's signal, which is for the worker."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})

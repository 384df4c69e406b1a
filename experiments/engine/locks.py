"""Locks: who works on a run directory. They are of the processes of one machine, or of all if the file system knows flock."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import TextIO

from darts_pt_jax import hosts
from experiments.errors import RunError


@contextlib.contextmanager
def locked(path: pathlib.Path, waiting: Callable[[str], None] | None = None) -> Iterator[TextIO]:
    """Keeps other processes of this machine out of what a lock file stands for; the system frees a dead one's lock.

    Of several hosts of one command the first holds it for all.

    Args:
      path: the lock file.
      waiting: told who has the lock, before waiting for them; by default that is an error.

    Yields:
      The file, which holds the lock for as long as a process has it open.

    Raises:
      RunError: another process has the lock.
    """
    with path.open("a+") as file:
        if not hosts.first():
            yield file
            return
        if owner := _held(file):
            if not waiting:
                raise _in_use(path, owner)
            waiting(owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        sign(file, os.getpid())
        yield file


def refuse_if_locked(path: pathlib.Path):
    """Checks, without writing anything, that no other process has a lock.

    Raises:
      RunError: one has.
    """
    if path.exists():
        with path.open() as file:
            if owner := _held(file, fcntl.LOCK_SH):
                raise _in_use(path, owner)


def _held(file: TextIO, lock: int = fcntl.LOCK_EX) -> str | None:
    """Takes the lock, or says who has it."""
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        file.seek(0)
        return file.read().strip() or "another process"


def _in_use(path: pathlib.Path, owner: str) -> RunError:
    return RunError(f"{path.parent} is in use by {owner}: wait for it or end it")


def sign(file: TextIO, process: int):
    """Says in a lock file who has the lock."""
    file.truncate(0)
    file.write(f"process {process} on {socket.gethostname()}\n")
    file.flush()

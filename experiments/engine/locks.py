"""Locks on run directories, between the processes of one machine, or of all machines if the file system supports flock."""

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
    """Holds the lock of a file; the system frees the lock of a dead process.

    If a command has several hosts, the first holds the lock for all.

    Args:
      path: the lock file.
      waiting: called with the owner of the lock before waiting for it; None: a lock that is taken is an error.

    Yields:
      The file. The lock lasts as long as a process has it open.

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
    """Checks, without changing anything, that no other process has the lock.

    Raises:
      RunError: another process has it.
    """
    if path.exists():
        with path.open() as file:
            if owner := _held(file, fcntl.LOCK_SH):
                raise _in_use(path, owner)


def discard(path: pathlib.Path):
    """Deletes a lock file, unless a process holds the lock."""
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        if not _held(file):
            path.unlink()


def _held(file: TextIO, lock: int = fcntl.LOCK_EX) -> str | None:
    """Takes the lock, or returns its owner."""
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        file.seek(0)
        return file.read().strip() or "another process"


def _in_use(path: pathlib.Path, owner: str) -> RunError:
    return RunError(f"{path.parent} is in use by {owner}: wait for it or end it")


def sign(file: TextIO, process: int):
    """Writes the owner of the lock into its file."""
    file.truncate(0)
    file.write(f"process {process} on {socket.gethostname()}\n")
    file.flush()

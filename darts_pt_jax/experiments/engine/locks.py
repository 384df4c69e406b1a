"""Locks on run directories, between the processes of one machine, or of all machines if the file system supports flock."""

import contextlib
import errno
import fcntl
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from darts_pt_jax import hosts
from darts_pt_jax.experiments.engine.exclusive import ExclusiveFile, signature
from darts_pt_jax.experiments.errors import RunError

_WITHOUT_FLOCK = errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS


class Lock:
    """The lock of an open file: a flock, which the system frees when its process ends, or an `ExclusiveFile` beside it."""

    def __init__(self, file: TextIO):
        """Takes nothing yet."""
        self._file, self._path = file, pathlib.Path(file.name)
        self._exclusive: ExclusiveFile | None = None

    def fileno(self) -> int:
        """The descriptor; a flock lasts as long as a process has it open."""
        return self._file.fileno()

    def take(self) -> str | None:
        """Takes the lock, or returns its owner."""
        if self._flock(fcntl.LOCK_EX):
            return None if not self._exclusive else self._exclusive.take()
        return self._named()

    def owner(self) -> str | None:
        """Whoever else has the lock, without a change."""
        if self._flock(fcntl.LOCK_SH):
            return None if not self._exclusive else self._exclusive.owner()
        return self._named()

    def _flock(self, how: int) -> bool:
        """Whether flock locks the file, or the file system has none; then the exclusive file decides.

        Raises:
          RunError: it fails for another reason than an owner.
        """
        try:
            fcntl.flock(self._file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _WITHOUT_FLOCK:
                raise RunError(f"{self._path}: cannot be locked: {error.strerror}") from error
            self._exclusive = ExclusiveFile(self._path.with_name(f"{self._path.name}.held"))
        return True

    def _named(self) -> str:
        self._file.seek(0)
        return self._file.read().strip() or "another process"

    def sign(self, process: int):
        """Names the owner of the lock that this process has taken."""
        self._file.truncate(0)
        self._file.write(f"{signature(process)}\n")
        self._file.flush()
        if self._exclusive:
            self._exclusive.sign(process)

    def held(self) -> contextlib.AbstractContextManager:
        """Keeps the lock meanwhile."""
        return self._exclusive.renewed() if self._exclusive else contextlib.nullcontext()


@contextlib.contextmanager
def locked(path: pathlib.Path, waiting: Callable[[str], None] | None = None) -> Iterator[Lock]:
    """Holds the lock of a file.

    If a command has several hosts, the first holds the lock for all.

    Args:
      path: the lock file.
      waiting: called with the owner of the lock before waiting for it; None: a lock that is taken is an error.

    Yields:
      The lock.

    Raises:
      RunError: another process has the lock.
    """
    with path.open("a+") as file:
        lock = Lock(file)
        if not hosts.first():
            yield lock
            return
        if owner := lock.take():
            if not waiting:
                raise _in_use(path, owner)
            waiting(owner)
            while lock.take():
                time.sleep(0.5)
        with lock.held():
            lock.sign(os.getpid())
            yield lock


def refuse_if_locked(path: pathlib.Path):
    """Checks, without changing anything, that no other process has the lock.

    Raises:
      RunError: another process has it.
    """
    if path.exists():
        with path.open() as file:
            if owner := Lock(file).owner():
                raise _in_use(path, owner)


def discard(path: pathlib.Path):
    """Deletes a lock file, unless a process holds the lock."""
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        if not Lock(file).owner():
            path.unlink()


def _in_use(path: pathlib.Path, owner: str) -> RunError:
    return RunError(f"{path.parent} is in use by {owner}: wait for it or end it")

"""A lock for file systems without flock, such as many network drives: a file that is made exclusively.

Its owner renews it every minute and removes it at the end. A process of the same machine takes it over if the owner has ended;
a process of another machine, if it has not been renewed for ten minutes. So the clocks of the machines have to agree within
minutes. An owner that was asleep for so long finds that it has lost the lock, and ends.
"""

import contextlib
import os
import pathlib
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from darts_pt_jax import record

RENEWED, ABANDONED = 60.0, 600.0
"""Seconds between two renewals; seconds without one until the lock is taken over."""


def signature(process: int) -> str:
    """The owner of a lock, for messages."""
    return f"process {process} on {socket.gethostname()}"


class ExclusiveFile:
    """The lock, as one process sees it."""

    def __init__(self, path: pathlib.Path):
        """Takes nothing yet."""
        self._path, self._token = path, uuid.uuid4().hex

    def owner(self) -> str | None:
        """Whoever has the lock; None if it is free."""
        try:
            text, age = self._path.read_text(errors="replace"), time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"another process (its lock {self._path} cannot be read: {error.strerror})"
        owner, number, place = [*text.splitlines(), "", "", ""][:3]
        if _ended(int(number)) if place == _here() else age > ABANDONED:
            return None
        return f"{owner or 'another process'} (its lock {self._path} ends at the latest {ABANDONED:.0f} s after the process)"

    def take(self) -> str | None:
        """Takes the lock, or returns its owner.

        Raises:
          WriteError: the file cannot be made.
        """
        while True:
            try:
                self._path.touch(exist_ok=False)
            except FileExistsError:
                if owner := self.owner():
                    return owner
                self._path.unlink(missing_ok=True)
                continue
            except OSError as error:
                raise record.WriteError(self._path, error) from error
            try:
                self.sign(os.getpid())
                return None
            except OSError as error:
                self._path.unlink(missing_ok=True)
                raise record.WriteError(self._path, error) from error

    def sign(self, process: int):
        """Names the owner."""
        self._path.write_text(f"{signature(process)}\n{process}\n{_here()}\n{self._token}\n")

    def _is_ours(self) -> bool:
        """Whether this process still has the lock, as far as the file can be read."""
        try:
            return self._token in self._path.read_text(errors="replace")
        except FileNotFoundError:
            return False
        except OSError:  # a network drive may be back in a minute
            return True

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renews the lock meanwhile, and frees it at the end; a lock that is lost ends the process as SIGTERM does."""
        end = threading.Event()

        def renew():
            while not end.wait(RENEWED):
                if not self._is_ours():
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                with contextlib.suppress(OSError):
                    os.utime(self._path)

        threading.Thread(target=renew, daemon=True).start()
        try:
            yield
        finally:
            end.set()
            if self._is_ours():
                self._path.unlink(missing_ok=True)


def _here() -> str:
    """The running system and its table of processes; containers have tables of their own."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not on Linux
        return socket.gethostname()


def _ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it belongs to another user
        pass
    return False

"""SIGINT and SIGTERM: a first signal asks the running work to finish its step and save, a second ends it at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable


class Interrupted(BaseException):
    """The program was told to stop; the message is one line.

    Attributes:
      signal: the signal.
      code: the exit code, 128 + the signal's number.
    """

    def __init__(self, received: signal.Signals, message: str):
        """Names the signal that was received."""
        super().__init__(f"stopped by {received.name} {message}")
        self.signal, self.code = received, 128 + received


class Interrupts:
    """A context manager that receives the two signals.

    Attributes:
      received: the signal that asked to stop, or None.
      saves: whether the running work checks `received` and saves; otherwise a signal ends it at once.
    """

    def __init__(self):
        """No signal has been received yet."""
        self.received: signal.Signals | None = None
        self.saves = False

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        else:
            self._before = {}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _):
        received = signal.Signals(number)
        again, self.received = self.received, received  # also where Python ignores exceptions, so that this one is lost
        if not self.saves or again:
            raise Interrupted(received, "at once: the same command continues from the last checkpoint")
        notice = "\n" * sys.stderr.isatty()  # leaves the line of the progress bar
        notice += f"{received.name}: finishing the step, then saving; a second signal stops at once\n"
        os.write(sys.stderr.fileno(), notice.encode())  # a handler may not call print, which is not reentrant


def exit_code(work: Callable[[Interrupts], int]) -> int:
    """Runs `work` and returns its result; if a signal ends it, prints that and returns the signal's exit code."""
    try:
        with Interrupts() as stop:
            return work(stop)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.code

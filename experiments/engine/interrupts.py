"""SIGINT and SIGTERM: the first asks the work in hand to finish its step and save, a second ends the program at once."""

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
    """Receives the two signals while it is entered.

    Attributes:
      received: the signal that asked to stop, or None.
      saves: whether the work in hand looks at `received`, and saves; otherwise a signal ends it at once.
    """

    def __init__(self):
        """Has received nothing yet."""
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
            raise Interrupted(received, "at once: the same command goes on from the last checkpoint")
        notice = "\n" * sys.stderr.isatty()  # not on the progress bar's line
        notice += f"{received.name}: finishing the step, then saving; once more stops at once\n"
        os.write(sys.stderr.fileno(), notice.encode())  # print may not be entered anew from a handler


def exit_code(work: Callable[[Interrupts], int]) -> int:
    """Calls `work` with the two signals received; returns its exit code, or, if a signal ends it, says so and returns 128 + n."""
    try:
        with Interrupts() as stop:
            return work(stop)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.code

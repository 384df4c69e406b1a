"""Reasons to stop: a first asks the running work to finish its step and save, a second signal ends it at once."""

import signal
import sys
import threading
from collections.abc import Callable

from darts_pt_jax.experiments import streams


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
    """A context manager that receives SIGINT and SIGTERM. Output that nothing reads counts as SIGPIPE.

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
        self._ask(received.name, again)

    def output_lost(self, error: OSError):
        """Called when standard output takes nothing more."""
        if not self.received:
            self.received = signal.SIGPIPE
            self._ask(f"standard output: {error.strerror}")

    def _ask(self, reason: str, again: bool = False):
        if again or not self.saves:
            why = "" if reason == self.received.name else f" ({reason})"
            raise Interrupted(self.received, f"at once{why}: the same command continues from the last checkpoint")
        leave_bar = "\n" * sys.stderr.isatty()
        streams.warn_from_handler(
            f"{leave_bar}{reason}: finishing the step, then saving; a second signal stops at once"
        )


def exit_code(work: Callable[[Interrupts], int]) -> int:
    """Runs `work` and returns its result; if a signal ends it, prints that and returns the signal's exit code."""
    try:
        with Interrupts() as stop:
            return work(stop)
    except Interrupted as stopped:
        streams.warn(str(stopped))
        return stopped.code

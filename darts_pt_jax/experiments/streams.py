"""The three standard streams, whatever is connected to them."""

import contextlib
import os
import sys
from typing import TextIO


def prepare():
    """Makes the three usable.

    A stream that is closed is opened on the null device: otherwise the next file takes its number, and what is meant for
    the stream is written into that file. A character that an encoding lacks is written as its number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(null, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))
        if number and getattr(sys, name).errors == "strict":
            getattr(sys, name).reconfigure(errors="backslashreplace")


def close(stream: TextIO):
    """Drops what is written to a stream from now on, and what it still holds."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def write(text: str):
    """Writes on standard output, at once.

    Raises:
      SystemExit: it takes nothing. That its reader has ended, such as `head`, is no failure.
    """
    try:
        print(text, end="", flush=True)
    except OSError as error:
        close(sys.stdout)
        ended = isinstance(error, BrokenPipeError)
        raise SystemExit(0 if ended else f"error: standard output: {error.strerror}") from error


def warn(text: str):
    """Writes a line on standard error, if that takes any."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        close(sys.stderr)


def warn_from_handler(text: str):
    """`warn` in a handler of a signal, which may not call print, since that is not reentrant."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode())

"""What the commands share: how they begin and end, read their arguments, and say that something went wrong."""

import argparse
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from darts_pt_jax import __version__
from experiments import streams

VERSION = f"darts-pt-jax {__version__}"
"""What --version prints."""


def start(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> NoReturn:
    """Carries out a command as the program, and exits with its code."""
    streams.prepare()
    try:
        code = main(argv)
    except SystemExit as ended:  # --help, or a wrong argument
        code = ended.code
    try:
        streams.write("")  # what is left in the buffer
    except SystemExit as lost:
        code = code or lost.code
    waiting = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
    if code == 1 and waiting:  # after a failure, orbax' threads wait for minutes for what will not come
        os._exit(code)
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise SystemExit(fail(f"{message}; --help shows what there is", 2))


def parser(name: str, about: str, **options) -> argparse.ArgumentParser:
    """The parser of `python -m experiments.NAME`; its help shows the command's docstring `about` as it is written."""
    look = argparse.RawDescriptionHelpFormatter
    made = _Parser(f"python -m experiments.{name}", description=about, formatter_class=look, **options)
    made.add_argument("--version", action="version", version=VERSION)
    return made


def fail(message, code: int) -> int:
    """Says in one line on standard error what went wrong, and returns the exit code."""
    streams.warn(f"error: {' '.join(str(message).split())}")
    return code

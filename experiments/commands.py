"""What the commands share: how they read their arguments, and how they say that something went wrong."""

import argparse
import os
import sys

from darts_pt_jax import __version__

VERSION = f"darts-pt-jax {__version__}"
"""What --version prints."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise SystemExit(fail(f"{message}; --help shows what there is", 2))


def parser(name: str, about: str, **options) -> argparse.ArgumentParser:
    """The parser of `python -m experiments.NAME`; its help shows the command's docstring `about` as it is written."""
    look = argparse.RawDescriptionHelpFormatter
    made = _Parser(f"python -m experiments.{name}", description=about, formatter_class=look, **options)
    made.add_argument("--version", action="version", version=VERSION)
    return made


def show(text: str):
    """Prints a text; ends silently if the reader of a pipe has left."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python would write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message, code: int) -> int:
    """Says in one line on standard error what went wrong, and returns the exit code."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return code

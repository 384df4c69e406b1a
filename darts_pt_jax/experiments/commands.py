"""What the commands share: how they begin and end, read their arguments, and say that something went wrong."""

import argparse
import os
import pathlib
import re
import runpy
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from darts_pt_jax import __version__
from darts_pt_jax.experiments import streams
from darts_pt_jax.naming import CHECKOUT

VERSION = f"darts-pt-jax {__version__}"
"""What --version prints."""

COMMANDS = (
    "main", "sweep", "report", "analysis", "predict", "export", "import_network", "nasbench201", "prepare", "cite",
)  # fmt: skip
"""The commands: `python -m experiments.NAME` in a checkout, `darts-pt-NAME` where the package is installed."""

_SCRIPT = "darts-pt"


def program():
    """Every console script: darts-pt-NAME or darts-pt NAME carries out that command, darts-pt without a name `main`."""
    name = pathlib.Path(sys.argv[0]).stem.removeprefix(f"{_SCRIPT}-").replace("-", "_")
    if name not in COMMANDS:
        name = "main"
        if sys.argv[1:2] and (asked := sys.argv[1].replace("-", "_")) in COMMANDS:
            name, sys.argv[1:] = asked, sys.argv[2:]
    sys.path.append("")  # as python -m looks for a user's modules, but last
    runpy.run_module(f"{__package__}.{name}", run_name="__main__", alter_sys=True)


def dashed(name: str) -> str:
    """The name of a command as a part of a script's name, or an argument of darts-pt."""
    return name.replace("_", "-")


def as_called(text: str) -> str:
    """The text as it is in a checkout; elsewhere with console scripts in place of `python -m experiments.NAME`."""

    def script(match: re.Match) -> str:
        return _SCRIPT if match[1] == "main" else f"{_SCRIPT}-{dashed(match[1])}"

    return text if CHECKOUT else _CALL.sub(script, text)


_CALL = re.compile(rf"(?<![\w.])(?:python -m )?experiments\.({'|'.join(COMMANDS)})\b")


def start(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> NoReturn:
    """Carries out a command as the program, and exits with its code."""
    streams.prepare()
    try:
        os.getcwd()
    except FileNotFoundError:
        sys.exit(fail("the current folder has been deleted: change to another", 1))
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


def at_home(arguments: Sequence[str]) -> list[str]:
    """Arguments in which a value that begins with ~ begins with the home directory: in --NAME=~/PATH, shells leave it."""
    split = [argument.partition("=") if argument.startswith("-") else ("", "", argument) for argument in arguments]
    return [name + equals + os.path.expanduser(value) for name, equals, value in split]


class _Parser(argparse.ArgumentParser):
    def parse_known_args(self, args=None, namespace=None):
        return super().parse_known_args(at_home(sys.argv[1:] if args is None else args), namespace)

    def error(self, message):
        raise SystemExit(fail(f"{message}; --help shows what there is", 2))


def parser(name: str, about: str, **options) -> argparse.ArgumentParser:
    """The parser of a command; its help shows the command's docstring `about` as it is written."""
    look = argparse.RawDescriptionHelpFormatter
    made = _Parser(
        as_called(f"python -m experiments.{name}"), description=as_called(about), formatter_class=look, **options
    )
    made.add_argument("--version", action="version", version=VERSION)
    return made


def fail(message, code: int) -> int:
    """Says in one line on standard error what went wrong, and returns the exit code."""
    streams.warn(f"error: {as_called(' '.join(str(message).split()))}")
    return code

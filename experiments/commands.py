"""What the commands share: how they read their arguments, and how they say that something went wrong."""

import argparse
import sys


def parser(name: str, about: str, **options) -> argparse.ArgumentParser:
    """The parser of `python -m experiments.NAME`; its help shows the command's docstring `about` as it is written."""
    look = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"python -m experiments.{name}", description=about, formatter_class=look, **options)


def fail(message, code: int) -> int:
    """Says in one line on standard error what went wrong, and returns the exit code."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return code

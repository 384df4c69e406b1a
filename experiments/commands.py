"""What the commands share."""

import argparse


def parser(name: str, about: str, **options) -> argparse.ArgumentParser:
    """The parser of `python -m experiments.NAME`; its help shows the command's docstring `about` as it is written."""
    look = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"python -m experiments.{name}", description=about, formatter_class=look, **options)

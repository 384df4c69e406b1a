"""A copy of the commands with changed source, used by programs in processes of their own."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

PRELUDE = """
from darts_pt_jax.experiments.config import reference, schema, settings
from darts_pt_jax.experiments.engine import directory
from darts_pt_jax.experiments.errors import ConfigError

def parsed(*overrides):
    return settings.parse(["main", "--config=configs/quickstart.py", *overrides])

def refused(function, *arguments):
    try:
        function(*arguments)
    except ConfigError as error:
        return str(error)
"""
"""How a program parses a command line, and takes the message of a refusal."""


def copied(folder: pathlib.Path) -> pathlib.Path:
    """Copies the commands and the configs into a folder; returns its folder `experiments`."""
    for name in ("experiments", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "experiments"


def insert(file: pathlib.Path, border: str, text: str):
    """Inserts text before the first `border` of a file."""
    before, found, after = file.read_text().partition(border)
    assert found, f"{file} lacks {border}"
    file.write_text(before + text + found + after)


def executed(folder: pathlib.Path, program: str) -> subprocess.CompletedProcess:
    """Runs a program, after `PRELUDE`, on the copy in a folder."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + program], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
    )  # fmt: skip

"""Copies of the project, and environments to install it in."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv

ROOT = pathlib.Path(__file__).parents[1]

SMALL = [
    f"--config.{key}={value}"
    for key, value in {
        "space": "nasbench201", "supernet.cells": 1, "supernet.channels": 2, "data.examples": 128, "data.flip": "off",
        "data.mean": "()", "data.std": "()", "search.epochs": 1, "search.batch_size": 16, "search.sampling": "epoch",
        "search.gradients": "shared", "search.alpha": "fixed", "select.interval": 0, "select.restrict_every": 0,
        "report.latency": False,
    }.items()
]  # fmt: skip
"""Options that make the quickstart as small as it can be."""

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
    """Copies the package into a folder; returns the folder of the commands there."""
    package = folder / "darts_pt_jax"
    shutil.copytree(ROOT / package.name, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package / "experiments"


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


def environment(folder: pathlib.Path) -> pathlib.Path:
    """Makes a Python environment that finds its own packages first, then those of the tests; returns its site-packages."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib"))
    return packages

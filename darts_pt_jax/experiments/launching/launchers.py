"""The launchers by name, and their options on the command line."""

import ast
import contextlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from darts_pt_jax.experiments.launching.base import Launcher, LauncherError
from darts_pt_jax.experiments.launching.local import Local
from darts_pt_jax.experiments.launching.ray import Ray
from darts_pt_jax.experiments.launching.slurm import Slurm
from darts_pt_jax.naming import install

LAUNCHERS: dict[str, type[Launcher]] = {"local": Local, "slurm": Slurm, "ray": Ray}
"""Launchers by name. A launcher that needs a package has an extra of its name in pyproject.toml."""


def options(given: Sequence[str]) -> dict[str, Any]:
    """Reads KEY=VALUE, each value as a Python literal, or else as text.

    Raises:
      LauncherError: one is not of that form, or gives a key again.
    """
    read = {}
    for option in given:
        key, equals, value = option.partition("=")
        if not (key.isidentifier() and equals):
            raise LauncherError(f"--launcher-option is {option!r}, expected KEY=VALUE such as num_gpus=1")
        if key in read:
            raise LauncherError(f"--launcher-option gives {key} twice")
        read[key] = value
        with contextlib.suppress(ValueError, SyntaxError):
            read[key] = ast.literal_eval(value)
    return read


def launcher(name: str, given: dict[str, Any], workdir: pathlib.Path, say: Callable[[str], None]) -> Launcher:
    """Makes the launcher of that name.

    Args:
      name: one of `LAUNCHERS`.
      given: its options.
      workdir: the directory of the sweep.
      say: shows a line.

    Raises:
      LauncherError: its package is missing, or an option is wrong.
    """
    try:
        return LAUNCHERS[name](given, workdir, say)
    except ModuleNotFoundError as error:
        raise LauncherError(f"--launcher={name} needs {error.name}: {install(name)}") from error
    except (ValueError, TypeError, NameError, AssertionError, RuntimeError, OSError) as error:  # from its engine
        asked = ", ".join(f"{key}={value}" for key, value in given.items()) or "no options"
        raise LauncherError(f"--launcher={name} with {asked}: {error}") from error

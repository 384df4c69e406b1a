"""The format of run directories, and which formats this version reads."""

import pathlib
from collections.abc import Mapping

from darts_pt_jax import __version__
from darts_pt_jax.experiments.errors import ConfigError

FORMAT = 2
"""The format that this version writes. Format 1, of version 0.1.0, has no number in run.json."""


def stamp() -> dict:
    """What run.json says of the version that wrote it."""
    return {"format": FORMAT, "version": __version__}


def refuse_newer(run: Mapping, file: pathlib.Path):
    """Holds what run.json says against the formats that this version reads.

    Raises:
      ConfigError: it is newer.
    """
    if _format(run) > FORMAT:
        raise ConfigError(
            f"{file} is of format {_format(run)}, written by darts-pt-jax {run.get('version', 'unknown')}; this is "
            f"{__version__}, which reads formats up to {FORMAT}: upgrade"
        )


def refuse_earlier(run: Mapping, directory: pathlib.Path):
    """Holds an unfinished run against the format that this version continues.

    Raises:
      ConfigError: it was begun in an earlier one.
    """
    if _format(run) < FORMAT:
        raise ConfigError(
            f"{directory} was begun by an earlier version (format {_format(run)}): finish it with darts-pt-jax "
            f"{run.get('version', '0.1.0')}, or name a new --workdir"
        )


def _format(run: Mapping) -> int:
    number = run.get("format", 1)
    return number if isinstance(number, int) else 1

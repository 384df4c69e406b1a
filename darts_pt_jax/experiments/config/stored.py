"""Reads run.json, which holds a run's config; imports no jax."""

import json
import pathlib

from darts_pt_jax import record
from darts_pt_jax.experiments.config.schema import Config, from_flat
from darts_pt_jax.experiments.config.versions import refuse_newer
from darts_pt_jax.experiments.errors import ConfigError, RunError


def read_run(workdir: pathlib.Path) -> dict:
    """The content of run.json. Early versions wrote no digest; such a file is not checked.

    Raises:
      ConfigError: the directory has none: it is not a run directory; or it is of a newer format.
      RunError: it is damaged.
    """
    file = workdir / "run.json"
    if not file.is_file():
        raise ConfigError(f"{workdir}: not a run directory: it has no run.json")
    text = file.read_bytes()
    try:
        content = json.loads(text)
        content = record.unsealed(text) if "sha256" in content else dict(content)
        if not isinstance(content.get("config"), dict):
            raise ValueError("it names no config")
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{file} is damaged ({error}): put it back") from error
    refuse_newer(content, file)
    return content


def config_in(workdir: pathlib.Path) -> Config:
    """The config that a run directory keeps; its plugins are not imported.

    Raises:
      ConfigError, RunError: as `read_run`.
    """
    return from_flat(read_run(workdir)["config"])

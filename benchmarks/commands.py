"""Runs `experiments.main` in temporary directories and reads timings.jsonl."""

import pathlib
import sys
import time
from collections.abc import Iterable, Sequence

from benchmarks import measure
from darts_pt_jax.record import JsonLines


def cache(folder: pathlib.Path) -> dict[str, str]:
    """Environment variables that make `folder` the compilation cache, with the settings of the project."""
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}


def run(workdir: pathlib.Path, config: str, keys: Iterable[str], overrides: Sequence[str]) -> tuple[float, list[dict]]:
    """Carries out one command with an empty compilation cache.

    Args:
      workdir: a new run directory; the compilation cache goes beside it.
      config: the config file.
      keys: settings "KEY=VALUE".
      overrides: further arguments, as the user gives them.

    Returns:
      Seconds of the whole process, and the lines of timings.jsonl.

    Raises:
      measure.Failure: the command fails.
    """
    given = [f"--config={config}", f"--workdir={workdir}", *(f"--config.{key}" for key in keys), *overrides]
    start = time.perf_counter()
    measure.run([sys.executable, "-m", "experiments.main", *given], cache(workdir.with_name(f"{workdir.name}-cache")))
    return time.perf_counter() - start, JsonLines(workdir / "timings.jsonl").read()

"""Failures that the user can fix, reported in one line that says how."""

import contextlib
from collections.abc import Callable, Iterator

import jax

from darts_pt_jax.experiments.errors import RunError

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED", "Out of memory"
"""Words of jax' errors; the second appears if the memory was for an argument of another computation."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python or jax says that memory ran out."""
    return isinstance(error, MemoryError) or any(said in str(error) for said in _OUT_OF_MEMORY)


@contextlib.contextmanager
def one_line(name: str, memory_advice: Callable[[], str]) -> Iterator[None]:
    """Turns failures that the user can fix into a `RunError` that says how.

    Args:
      name: the work in progress.
      memory_advice: returns what to do if memory runs out.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise RunError(f"{name}: out of memory: {memory_advice()}") from error
    except FloatingPointError as error:
        if jax.config.jax_debug_nans:
            raise
        raise RunError(
            f"{name}, {error}; the last checkpoint is kept: --config.debug_nans=True continues from it and stops at the "
            "operation"
        ) from error

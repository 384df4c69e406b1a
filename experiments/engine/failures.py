"""Failures that the user can mend, in one line that says how."""

import contextlib
from collections.abc import Callable, Iterator

import jax

from experiments.errors import RunError

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED", "Out of memory"
"""What jax says; the second, where memory ran out for something that another computation waits for."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python or jax says that memory ran out."""
    return isinstance(error, MemoryError) or any(said in str(error) for said in _OUT_OF_MEMORY)


@contextlib.contextmanager
def one_line(name: str, memory_advice: Callable[[], str]) -> Iterator[None]:
    """Turns failures that the user can mend into a `RunError` that says how.

    Args:
      name: what was being done.
      memory_advice: what to do where memory ran out.
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
            f"{name}, {error}; the last checkpoint is kept: --config.debug_nans=True goes on from it and stops at the "
            "operation"
        ) from error

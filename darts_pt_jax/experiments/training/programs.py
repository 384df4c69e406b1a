"""Compiles the programs of a step in parallel.

XLA compiles each program on one thread, and XLA:CPU loads several small programs from its cache faster than a large one.
"""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from darts_pt_jax.devices import Devices, Program


class Programs:
    """Makes jitted functions for some devices.

    Inside the context `compiling`, a call of such a function computes nothing. It starts to compile the program for its
    arguments in another thread, and returns the shapes of the results. So one call of a function that uses several
    programs compiles them all.
    """

    def __init__(self, devices: Devices):
        """Compiles nothing yet."""
        self._devices, self._ahead = devices, None

    def __call__(self, function: Callable, **options) -> Callable:
        """`function`, jitted with the options of `Devices.jit`."""
        jitted = self._devices.jit(function, **options)

        def program(*args):
            if self._ahead is None or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
                return jitted(*args)
            return self._ahead.shapes(jitted, args)

        return program

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Compiles, or loads from the cache, all programs that are called inside; at the end all are ready."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self._ahead = _Ahead(pool)
            try:
                yield
                self._ahead.wait()
            finally:
                self._ahead = None


class _Ahead:
    """Programs in compilation."""

    def __init__(self, pool: concurrent.futures.Executor):
        self._pool, self._compiled, self._shapes = pool, [], {}

    def shapes(self, jitted: Program, args: tuple) -> Any:
        """The shapes of the results; starts to compile the program for the first arguments of these shapes."""
        leaves, structure = jax.tree.flatten(args)
        key = jitted, structure, *((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)
        if key not in self._shapes:
            traced = jitted.trace(*args)
            self._compiled.append(self._pool.submit(traced.lower().compile))
            self._shapes[key] = traced.out_info
        return self._shapes[key]

    def wait(self):
        """Waits until all are compiled; raises what a compilation raised."""
        for program in self._compiled:
            program.result()

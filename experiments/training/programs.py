"""The programs of a step, compiled side by side.

XLA compiles each on one thread, and XLA:CPU reads several small ones from its cache sooner than a large one.
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

    While `compiling` is entered, a call of one of them computes nothing: the program for its arguments is compiled in
    another thread, and the call returns the shapes of its results. So a function of several programs is called once with
    its arguments to compile them all.
    """

    def __init__(self, devices: Devices):
        """Has compiled nothing."""
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
        """Compiles, or reads from the cache, all programs that are called within; at the end all are ready."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self._ahead = _Ahead(pool)
            try:
                yield
                self._ahead.wait()
            finally:
                self._ahead = None


class _Ahead:
    """Programs that are being compiled."""

    def __init__(self, pool: concurrent.futures.Executor):
        self._pool, self._compiled, self._shapes = pool, [], {}

    def shapes(self, jitted: Program, args: tuple) -> Any:
        """The shapes of the results; begins to compile the program, unless it has been called with such arguments."""
        leaves, structure = jax.tree.flatten(args)
        key = jitted, structure, *((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)
        if key not in self._shapes:
            traced = jitted.trace(*args)
            self._compiled.append(self._pool.submit(traced.lower().compile))
            self._shapes[key] = traced.out_info
        return self._shapes[key]

    def wait(self):
        """Until all are compiled; raises what compiling raised."""
        for program in self._compiled:
            program.result()

"""Programs of a step that are compiled side by side."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator

import jax
import numpy as np

from darts_pt_jax.devices import Devices


class Programs:
    """Makes jitted functions for some devices; `side_by_side` compiles all that a call of several of them needs.

    XLA compiles each on one thread, and XLA:CPU reads several small ones from its cache sooner than a large one.
    """

    def __init__(self, devices: Devices):
        """Has compiled nothing."""
        self._devices, self._pool = devices, None

    def __call__(self, function: Callable, **options) -> Callable:
        """`function`, jitted with the options of `Devices.jit`.

        While `side_by_side` is open it computes nothing: the program for its arguments (or `ShapeDtypeStruct`s in place
        of arrays) is compiled in another thread, and it returns the shapes of its results.
        """
        jitted = self._devices.jit(function, **options)

        def program(*args):
            if self._pool is None or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
                return jitted(*args)
            leaves, structure = jax.tree.flatten(args)
            key = function, structure, *((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)
            if key not in self._results:
                traced = jitted.trace(*args)
                self._compiling.append(self._pool.submit(traced.lower().compile))
                self._results[key] = traced.out_info
            return self._results[key]

        return program

    @contextlib.contextmanager
    def side_by_side(self) -> Iterator[None]:
        """Programs called within are compiled, or read from the cache, while the next is traced; at the end all are."""
        self._compiling, self._results = [], {}
        with concurrent.futures.ThreadPoolExecutor() as self._pool:
            try:
                yield
                for program in self._compiling:
                    program.result()
            finally:
                self._pool = None

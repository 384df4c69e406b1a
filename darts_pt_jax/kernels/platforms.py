"""Choice of a form by the platform that a program is lowered for, which need not be the one that traces it."""

import functools
from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from darts_pt_jax import devices

_bound = functools.cache(functools.partial)
"""`functools.partial` that returns the same object for the same arguments, so that jax finds what it has traced."""


def by_platform(on_cpu: Callable, elsewhere: Callable, *arrays, on_gpu: Callable | None = None, **constants):
    """Applies `on_cpu` in a program for CPUs and `elsewhere` in any other; all forms return the same shapes.

    A program that is traced for a mesh gets one of them. Any other program, such as an export, takes longer to trace: it
    gets all, and lowering keeps the forms of its platforms. Call this within the rules of a `custom_vjp`, so that
    reverse-mode differentiation does not meet the choice.

    Args:
      on_cpu, elsewhere: functions of the arrays and the constants, defined at module level.
      *arrays: pytrees of arrays.
      on_gpu: another such function, for programs for GPUs; by default `elsewhere`.
      **constants: hashable values.
    """
    on_cpu, on_gpu, elsewhere = (_bound(form, **constants) for form in (on_cpu, on_gpu or elsewhere, elsewhere))
    platform = devices.platform()
    if platform is None:
        forms = {"cpu": on_cpu} if on_gpu is elsewhere else {"cpu": on_cpu, "cuda": on_gpu, "rocm": on_gpu}
        return jax.lax.platform_dependent(*arrays, **forms, default=elsewhere)
    return {"cpu": on_cpu, "gpu": on_gpu}.get(platform, elsewhere)(*arrays)


def apart(*static: str) -> Callable:
    """Decorates a function that XLA:CPU is to compile apart from its surroundings; for use in programs for CPUs alone.

    Otherwise XLA:CPU fuses the function's inputs into each of its users and computes them anew for each.

    Args:
      *static: names of the arguments that are constants, which callers pass by keyword.
    """

    def decorate(function):
        compiled = jax.jit(function, static_argnames=static)

        @functools.wraps(function)
        def call(*arrays, **constants):
            return set_xla_metadata(compiled(*arrays, **constants), inlineable="false")

        return call

    return decorate


def apart_on_cpu(*static: str) -> Callable:
    """As `apart`, for a function that is called on every platform: elsewhere it is compiled with its surroundings."""

    def decorate(function):
        on_cpu, elsewhere = apart(*static)(function), jax.jit(function, static_argnames=static)

        @functools.wraps(function)
        def call(*arrays, **constants):
            return by_platform(on_cpu, elsewhere, *arrays, **constants)

        return call

    return decorate

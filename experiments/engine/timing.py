"""Seconds, seconds of compilation, and images of the work at hand."""

import functools
import time
from collections.abc import Iterable

import jax


@functools.cache
def _compilations() -> list[tuple[float, float]]:
    """Begin and end of everything that jax traces, lowers or compiles from now on."""
    spans = []

    def listen(event: str, begin: float, end: float, **_):
        if event.startswith("/jax/core/compile/"):
            spans.append((begin, end))

    jax.monitoring.register_event_time_span_listener(listen)
    return spans


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in any of the spans (begin, end); those of inner functions lie within outer ones."""
    total, last = 0.0, 0.0
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, last))
        last = max(last, end)
    return total


class Stopwatch:
    """Measures from its making on.

    Attributes:
      images: images that went through a supernet, as its user counts them.
    """

    def __init__(self):
        """Starts."""
        self.images = 0
        self._start, self._first = time.perf_counter(), len(_compilations())

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    @property
    def compile_seconds(self) -> float:
        """Seconds of tracing, lowering and compiling (or reading from the compilation cache) among them."""
        return covered(_compilations()[self._first :])

    @property
    def images_per_second(self) -> float:
        """Images for each second that was not compilation."""
        return self.images / max(self.seconds - self.compile_seconds, 1e-9)

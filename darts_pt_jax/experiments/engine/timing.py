"""Measures seconds, seconds of compilation, and images."""

import functools
import time
from collections.abc import Iterable

import jax


@functools.cache
def _compilations() -> list[tuple[float, float]]:
    """A list that receives the begin and end of everything that jax traces, lowers or compiles from now on."""
    spans = []

    def listen(event: str, begin: float, end: float, **_):
        if event.startswith("/jax/core/compile/"):
            spans.append((begin, end))

    jax.monitoring.register_event_time_span_listener(listen)
    return spans


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by the union of spans (begin, end); the spans of inner functions lie within those of outer ones."""
    total, last = 0.0, 0.0
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, last))
        last = max(last, end)
    return total


class Stopwatch:
    """Measures from its creation on.

    Attributes:
      images: images that went through a network, as counted by the caller.
    """

    def __init__(self):
        """Starts the stopwatch."""
        self.images = 0
        self._start, self._first = time.perf_counter(), len(_compilations())

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    @property
    def compile_seconds(self) -> float:
        """Seconds of tracing, lowering and compiling (or loading from the compilation cache) so far."""
        return covered(_compilations()[self._first :])

    @property
    def images_per_second(self) -> float:
        """Images for each second outside compilation."""
        return self.images / max(self.seconds - self.compile_seconds, 1e-9)

"""The output of a running command: a progress bar on a terminal, plain lines elsewhere."""

import collections
import contextlib
import time
from collections.abc import Callable, Sequence

import rich.console
import rich.markdown
import rich.progress
import rich.table

from experiments.engine.timing import Stopwatch

QUIET_SECONDS = 60.0
"""Interval between two progress lines of a unit, unless the output is a terminal."""


class Screen:
    """Shows the progress of a command's units of work."""

    def __init__(self, file=None):
        """Shows nothing yet; `file` defaults to standard output."""
        self._console = rich.console.Console(file=file, highlight=False, soft_wrap=True)
        whole = rich.table.Column(no_wrap=True, overflow="ellipsis")
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(bar_width=10),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.description} {task.fields[text]}", markup=False, table_column=whole),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._waiting, self._seconds = collections.Counter(), {}
        self._task = self._bar.add_task("", total=None, text="")

    @contextlib.contextmanager
    def showing(self, units: Sequence):
        """Shows progress while the `units` are carried out; each has `name`, `stage` and `type`."""
        self._waiting = collections.Counter((unit.stage, unit.type) for unit in units)
        with self._bar:
            yield

    def say(self, text: str):
        """Prints a line."""
        self._console.print(text, markup=False)

    def show(self, markdown: str):
        """Prints a Markdown text: formatted on a terminal, as it is elsewhere."""
        if self._console.is_terminal:
            self._console.print(rich.markdown.Markdown(markdown), soft_wrap=False)
        else:
            self.say(markdown)

    def begin(self, unit):
        """Called when a unit begins."""
        self._unit, self._spoke = unit, time.perf_counter()
        self._waiting[unit.stage, unit.type] -= 1
        self._bar.reset(self._task, description=unit.name, total=None, text="compiling or starting")

    def step(self, watch: Stopwatch, name: str, done: int, steps: int, images: int, measures: Callable[[], dict]):
        """Called after a step of the unit.

        Args:
          watch: the stopwatch of the loop.
          name: name of the steps.
          done, steps: number of finished steps of the loop, and of all.
          images: images of each step.
          measures: returns the numbers to show, by name; called only if they are shown.
        """
        now = time.perf_counter()
        if now - self._spoke < (0.2 if self._console.is_terminal else QUIET_SECONDS):
            return
        self._spoke = now
        rate = watch.images_per_second
        left = (steps - done) * images / rate
        text = f"{name} {done}/{steps} {words(measures())} {rate:.3g} images/s, {clock(left)} left"
        if (others := self._others()) is not None:
            text += f" ({clock(left + others)} in all)"
        self._bar.update(self._task, completed=done, total=steps, text=text)
        if not self._console.is_terminal:
            self.say(f"{self._unit.name}: {text}")

    def end(self, watch: Stopwatch):
        """Called when the unit has ended."""
        self._seconds[self._unit.stage, self._unit.type] = watch.seconds - watch.compile_seconds

    def _others(self) -> float | None:
        """Estimated seconds of the remaining units; None until a unit of every type has been timed."""
        waiting = +self._waiting
        if waiting.keys() <= self._seconds.keys():
            return sum(count * self._seconds[type_] for type_, count in waiting.items())
        return None


def words(values: dict) -> str:
    """Names and values on one line."""
    return " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"

"""The output of a running command: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import rich.console
import rich.markdown
import rich.progress
import rich.table

from darts_pt_jax.experiments import streams
from darts_pt_jax.experiments.engine.interrupts import Interrupts
from darts_pt_jax.experiments.engine.time_left import TimeLeft
from darts_pt_jax.experiments.engine.timing import Stopwatch
from darts_pt_jax.experiments.engine.units import Unit

QUIET_SECONDS = 60.0
"""Interval between two progress lines, unless the output is a terminal."""


class Screen:
    """Shows the progress of a command's units of work."""

    def __init__(self, file=None, stop: Interrupts | None = None):
        """Shows nothing yet; `file` defaults to standard output. `stop` is told if that takes nothing more."""
        sizes = {name for name in ("COLUMNS", "LINES") if os.environ.get(name) == "0"}  # some containers set these
        environment = {name: value for name, value in os.environ.items() if name not in sizes}
        self._console = _Console(file=file, highlight=False, soft_wrap=True, _environ=environment)
        self._stop = stop
        rest_of_line = rich.table.Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(bar_width=10),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.fields[left]}", markup=False),
            rich.progress.TextColumn("{task.description} {task.fields[text]}", markup=False, table_column=rest_of_line),
            console=self._console,
            transient=True,
            expand=True,
            disable=not self._console.is_terminal,
        )
        self._left = ""
        self._task = self._bar.add_task("", total=None, text="", left="")

    @contextlib.contextmanager
    def showing(self, units: Sequence[Unit], timings: Iterable[dict]):
        """Shows progress while the `units` are carried out; `timings` are the lines of timings.jsonl so far."""
        self._time_left, self._spoke = TimeLeft(units, timings), time.perf_counter()
        with self._bar:
            yield

    def say(self, text: str):
        """Prints a line."""
        self._print(text, markup=False)

    def show(self, markdown: str):
        """Prints a Markdown text: formatted on a terminal, as it is elsewhere."""
        if self._console.is_terminal:
            self._print(rich.markdown.Markdown(markdown), soft_wrap=False)
        else:
            self.say(markdown)

    def _print(self, *what, **how):
        try:
            self._console.print(*what, **how)
        except OSError as error:
            if not self._stop:
                raise
            streams.close(sys.stdout)
            self._stop.output_lost(error)

    def begin(self, unit: Unit, whole: bool = True):
        """Called when a unit begins; it is not `whole` if an earlier command has done a part of it."""
        self._unit = unit
        self._time_left.begin(unit, whole)
        self._bar.reset(self._task, description=unit.name, total=None, text="compiling or starting", left=self._left)

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
        text = f"{name} {done}/{steps} {words(measures())}"
        if watch.images:  # a step is done
            rate = watch.images_per_second
            seconds, complete = self._time_left.seconds((steps - done) * images / rate)
            text += f" {rate:.3g} images/s"
            self._left = f"run: {'' if complete else 'over '}{clock(seconds)} left"
        self._bar.update(self._task, completed=done, total=steps, text=text, left=self._left)
        if not self._console.is_terminal:
            self.say(f"{self._unit.name}: {', '.join(filter(None, [text, self._left]))}")

    def end(self):
        """Called when the unit has ended."""
        self._time_left.end()


class _Console(rich.console.Console):
    def on_broken_pipe(self):
        """Raises the error; rich would end the program without a word."""
        raise


def words(values: dict) -> str:
    """Names and values on one line."""
    return " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"

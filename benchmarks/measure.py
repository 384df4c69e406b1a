"""Shared by the benchmark commands: options, alternating processes, rows, a Markdown table, a JSON file.

Every measurement is a separate process that prints a JSON line: `benchmarks.ours` for our programs, the peer for its own.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

SIZES = {
    "darts": {"channels": 16, "cells": 8, "size": 32, "batch": 64},
    "s2": {"channels": 16, "cells": 8, "size": 32, "batch": 64},
    "nasbench201": {"channels": 16, "cells": 5, "size": 32, "batch": 64},
}
"""The default sizes of each space."""


class Failure(RuntimeError):
    """A measurement cannot be made; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured number, or two and their ratio.

    Attributes:
      name, size: what was measured, and at what size.
      ours, peer: medians, in `unit`.
      ratio, spread: ours over the peer's; the smallest and the largest ratio of a pair of consecutive runs.
      goal, limit: the goal, and the bound that must hold, for `ratio` if `of_ratio`, else for `ours`.
      unit: "s" or "%".
    """

    name: str
    size: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    goal: float | None = None
    limit: float | None = None
    spread: tuple[float, float] | None = None
    unit: str = "s"
    of_ratio: bool = True

    @classmethod
    def compared(cls, name: str, size: str, ours: Sequence[float], peer: Sequence[float] | None, **more) -> "Row":
        """A row from seconds of alternating runs, whose n-th values form a pair; `peer` is None if only ours ran."""
        if peer is None:
            return cls(name, size, statistics.median(ours), **more)
        ratios = [one / other for one, other in zip(ours, peer, strict=True)]
        one, other = statistics.median(ours), statistics.median(peer)
        return cls(name, size, one, other, one / other, spread=(min(ratios), max(ratios)), **more)

    def cells(self) -> list[str]:
        """The row as the table shows it."""
        unit = "" if self.of_ratio else self.unit
        spread = f" ({self.spread[0]:.2f} to {self.spread[1]:.2f})" if self.spread else ""
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}{spread}"
        measured = [_number(self.ours, self.unit), _number(self.peer, self.unit), ratio]
        return [self.name, self.size, *measured, _number(self.goal, unit), _number(self.limit, unit)]


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.0f} {unit}".strip() if value >= 100 else f"{value:.3g} {unit}".strip()


class Table:
    """A Markdown table that is printed row by row, and written to `json_file`, if given, after every row."""

    HEADER = ("what", "size", "ours", "peer", "ratio (spread)", "goal", "never above")

    def __init__(self, json_file: pathlib.Path | None, header: Sequence[str] = HEADER):
        """Prints the head.

        Raises:
          Failure: the file cannot be written.
        """
        self._json_file, self._rows, self.torch = json_file, [], None
        self._write()
        self._print(header)
        self._print(["---"] * len(header))

    def add(self, row: Row):
        """Adds a row."""
        self.add_line(row.cells(), dataclasses.asdict(row))

    def add_line(self, cells: Iterable[str], value: dict):
        """Adds a row of another form: the cells to print, and the value to write."""
        self._print(cells)
        self._rows.append(value)
        self._write()

    def _write(self):
        if not self._json_file:
            return
        content = {"machine": machine(), "versions": versions(self.torch), "rows": self._rows}
        try:
            self._json_file.write_text(json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise Failure(f"--json {self._json_file}: {error.strerror}") from error

    @staticmethod
    def _print(cells: Iterable[str]):
        print("|", " | ".join(cells), "|", flush=True)


def machine() -> dict:
    """Name of the processor, cores of this process, and memory in GB."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {"processor": name, "cores": cores, "memory_gb": round(memory, 1)}


def versions(torch: str | None) -> dict:
    """The versions in use; `torch` is the version of the peer, if known."""
    ours = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    return ours | {"python": platform.python_version(), "torch": torch}


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Runs a process and returns its standard output.

    Raises:
      Failure: the process cannot start or fails; the message ends with its last line.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | (env or {}))
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise Failure(f"{shlex.join(command)} exits with {done.returncode}: {last}")
    return done.stdout


def ask(command: Sequence[str], env: Mapping[str, str] | None = None) -> dict:
    """Runs a process and returns the JSON value in its last line.

    Raises:
      Failure: there is none.
    """
    lines = run(command, env).strip().splitlines()
    try:
        return dict(json.loads(lines[-1]))
    except (IndexError, TypeError, ValueError) as error:
        raise Failure(f"{shlex.join(command)} prints no JSON object in its last line") from error


def alternate(commands: Mapping[str, Sequence[str]], times: int) -> dict[str, list[dict]]:
    """Runs the commands in turn, `times` times, and returns the answers of each.

    Raises:
      Failure: a command fails, or the supernets of two commands differ in size.
    """
    answers = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            answers[name].append(ask(command))
    counts = {name: lines[0].get("parameters") for name, lines in answers.items()}
    if len(set(counts.values())) > 1:
        raise Failure(f"the supernets differ in their parameters: {counts}")
    return answers


def column(answers: Sequence[dict], key: str) -> list[float]:
    """The number under `key` in every answer.

    Raises:
      Failure: an answer lacks it.
    """
    if missing := [answer for answer in answers if not isinstance(answer.get(key), float)]:
        raise Failure(f"expected seconds under {key!r} in {json.dumps(missing[0])}")
    return [answer[key] for answer in answers]


def parser(text: str, peer: bool = False, sizes: bool = True) -> argparse.ArgumentParser:
    """The options of a command: those of all commands, and those for a peer and for sizes."""
    options = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write machine, versions and rows there")
    if sizes:
        for name in SIZES["darts"]:
            options.add_argument(f"--{name}", type=int, help="another size, for trials")
        options.add_argument("--runs", type=int, default=3, help="timed runs of a process (default: 3)")
        options.add_argument("--only", type=lambda text: text.split(","), metavar="NAME[,NAME]", help="only these rows")
    if peer:
        options.add_argument(
            "--peer", type=shlex.split, metavar="COMMAND", help="the peer's command, without size options"
        )
        options.add_argument("--alternations", type=int, default=3, help="how often both are run (default: 3)")
    return options


def chosen(names: Iterable[str], only: Sequence[str] | None, option: str = "--only", of: str = "the rows") -> list[str]:
    """The names that an option selects; all without it.

    Raises:
      Failure: it names an unknown one.
    """
    names = list(names)
    if unknown := set(only or ()) - set(names):
        raise Failure(f"{option} names {', '.join(sorted(unknown))}, {of} are {', '.join(names)}")
    return [name for name in names if only is None or name in only]


def sizes(args: argparse.Namespace, space: str) -> dict[str, int]:
    """channels, cells, size and batch: from the command's options, or the defaults of the space."""
    return {name: getattr(args, name) or usual for name, usual in SIZES[space].items()}


def size_words(args: argparse.Namespace, space: str) -> str:
    """`sizes` in words, for the table."""
    cells = "cells a stage" if space == "nasbench201" else "cells"
    return f"{{channels}} channels, {{cells}} {cells}, {{size}}x{{size}}, batch {{batch}}".format(**sizes(args, space))


def with_sizes(command: Sequence[str], args: argparse.Namespace, space: str, *more: object) -> list[str]:
    """A command line, ours or the peer's, with the options for sizes."""
    options = {"space": space, **sizes(args, space), "runs": args.runs}
    return [*command, *(f"--{name}={value}" for name, value in options.items()), *map(str, more)]


def ours(args: argparse.Namespace, space: str, *more: object) -> list[str]:
    """The command line of one of our measurements."""
    return with_sizes([sys.executable, "-m", "benchmarks.ours"], args, space, *more)


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Makes a command end with one line and exit code 1 if a measurement fails."""

    @functools.wraps(main)
    def guarded():
        try:
            main()
        except Failure as failure:
            sys.exit(f"error: {' '.join(str(failure).split())}")

    return guarded

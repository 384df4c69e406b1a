"""The numbers of the records as scalars, for the loggers that the config asks for."""

import contextlib
import os
import pathlib
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from darts_pt_jax import record
from darts_pt_jax.experiments.config.schema import Config, flatten
from darts_pt_jax.experiments.errors import RunError
from darts_pt_jax.selection import perturbation


class Logger(Protocol):
    """Takes the lines of metrics.jsonl and decisions.jsonl."""

    def add(self, *records: dict):
        """Adds the numbers of lines.

        Raises:
          WriteError: the disk is full, or similar.
        """

    def close(self):
        """Ends it; an error of the disk is ignored."""


def loggers(config: Config, workdir: pathlib.Path, records: Sequence[dict]) -> list[Logger]:
    """The loggers of a run, which hold the `records` so far.

    Raises:
      WriteError: the disk is full, or similar.
      RunError: wandb does not begin.
    """
    made: list[Logger] = []
    if config.tensorboard:
        made.append(TensorBoard(workdir / "tensorboard", records))
    if config.wandb:
        made.append(WandB(workdir, config, records))
    return made


class TensorBoard:
    """Writes TensorBoard scalars into one directory."""

    def __init__(self, directory: pathlib.Path, records: Iterable[dict]):
        """Starts the directory afresh with the `records` so far.

        Raises:
          WriteError: as in `add`.
        """
        from tensorboardX.event_file_writer import EventsWriter

        self._directory = directory
        with record.writing(directory):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(exist_ok=True)
            self._writer = EventsWriter(str(directory / "events"))  # the thread of a SummaryWriter would fail silently
        self.add(*records)

    def add(self, *records: dict):
        """See `Logger`."""
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event

        with record.writing(self._directory):
            for line in records:
                for tag, value, step in _numbers(line):
                    event = Event(wall_time=time.time(), step=step, summary=summary.scalar(tag, value))
                    self._writer.write_event(event)
            self._writer.flush()

    def close(self):
        """See `Logger`."""
        with contextlib.suppress(OSError):
            self._writer.close()


class WandB:
    """Sends scalars to Weights & Biases: one run there for a run directory, whose id is kept in wandb/id.

    A line of the records is one step there, so that a line which an earlier command has sent is not sent again. Charts have
    the epoch or the number of the decision on their x axis. Offline, every command writes all lines to a new folder.
    """

    def __init__(self, workdir: pathlib.Path, config: Config, records: Iterable[dict]):
        """Begins or continues the run there.

        Raises:
          WriteError: the id cannot be written.
          RunError: wandb refuses, for example since nobody is logged in.
        """
        import wandb

        file = workdir / "wandb" / "id"
        if not file.exists():
            with record.writing(file):
                file.parent.mkdir(exist_ok=True)
            record.write_text(file, secrets.token_hex(8))
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "darts-pt-jax"), id=file.read_text(), resume="allow",
                name=workdir.name, dir=str(workdir), config=flatten(config),
                settings=wandb.Settings(silent=True, console="off"),
            )  # fmt: skip
        except Exception as error:
            said = f"{type(error).__name__}: {error!s:.200}".rstrip(".")
            raise RunError(f"wandb: {said}: mend that, set WANDB_MODE=offline, or leave out --config.wandb") from error
        self._next, self._sent, self._groups = 0, self._run.step, set()
        self.add(*records)

    def add(self, *records: dict):
        """See `Logger`."""
        for line in records:
            if self._next >= self._sent:
                self._send(line)
            self._next += 1

    def _send(self, line: dict):
        values = {}
        for tag, value, step in _numbers(line):
            group = tag.rpartition("/")[0]
            if group not in self._groups:
                self._run.define_metric(f"{group}/*", step_metric=f"{group}/number")
                self._groups.add(group)
            values |= {tag: value, f"{group}/number": step}
        self._run.log(values, step=self._next)

    def close(self):
        """See `Logger`."""
        self._run.finish()


def _numbers(line: dict) -> Iterator[tuple[str, float, int]]:
    order = f"order_{line['order']}/" if line.get("order", 1) > 1 else ""
    if "decision" in line:
        name, step = f"{order}decision", line["decision"]
        if (accuracy := perturbation.baseline_accuracy(line)) is not None:
            yield f"{name}/baseline_accuracy", accuracy, step
        yield f"{name}/margin", line["margin"], step
    else:
        step = line.get("epoch", line.get("tuning_epoch"))
        for key, value in line.items():
            if isinstance(value, float):
                yield f"{order}{line['stage']}/{key}", value, step

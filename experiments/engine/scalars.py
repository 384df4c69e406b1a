"""The numbers of the records as TensorBoard scalars."""

import contextlib
import pathlib
import shutil
import time
from collections.abc import Iterable, Iterator

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from darts_pt_jax import record
from darts_pt_jax.selection import perturbation


class Scalars:
    """Writes the numbers of records as TensorBoard scalars into one directory."""

    def __init__(self, directory: pathlib.Path, records: Iterable[dict]):
        """Starts the directory afresh with the `records` so far.

        Raises:
          WriteError: as in `add`.
        """
        self._directory = directory
        with record.writing(directory):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(exist_ok=True)
            self._writer = EventsWriter(str(directory / "events"))  # the thread of a SummaryWriter would fail silently
        self.add(*records)

    def add(self, *records: dict):
        """Adds the numbers of lines of metrics.jsonl (by epoch) or decisions.jsonl (by decision).

        Raises:
          WriteError: the disk is full, or similar.
        """
        with record.writing(self._directory):
            for line in records:
                for tag, value, step in _numbers(line):
                    event = Event(wall_time=time.time(), step=step, summary=summary.scalar(tag, value))
                    self._writer.write_event(event)
            self._writer.flush()

    def close(self):
        """Closes the file; an error of the disk is ignored."""
        with contextlib.suppress(OSError):
            self._writer.close()


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

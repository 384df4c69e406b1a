"""TensorBoard's view of the records; it holds nothing that they do not."""

import pathlib
import shutil
from collections.abc import Iterable

from tensorboardX import SummaryWriter

from darts_pt_jax.selection import perturbation


class Scalars:
    """Writes the numbers of records as TensorBoard scalars into one directory."""

    def __init__(self, directory: pathlib.Path, records: Iterable[dict]):
        """Begins the directory anew, with the `records` so far."""
        shutil.rmtree(directory, ignore_errors=True)
        self._writer = SummaryWriter(str(directory), write_to_disk=True)
        for record in records:
            self._write(record)
        self._writer.flush()

    def close(self):
        """Sees everything to the file."""
        self._writer.close()

    def add(self, record: dict):
        """Adds the numbers of a line of metrics.jsonl (by epoch) or decisions.jsonl (by decision)."""
        self._write(record)
        self._writer.flush()

    def _write(self, record: dict):
        order = f"order_{record['order']}/" if record.get("order", 1) > 1 else ""
        if "decision" in record:
            name, step = f"{order}decision", record["decision"]
            if (accuracy := perturbation.baseline_accuracy(record)) is not None:
                self._writer.add_scalar(f"{name}/baseline_accuracy", accuracy, step)
            self._writer.add_scalar(f"{name}/margin", record["margin"], step)
        else:
            step = record.get("epoch", record.get("tuning_epoch"))
            for key, value in record.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{order}{record['stage']}/{key}", value, step)

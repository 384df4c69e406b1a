"""Converts the official files of NAS-Bench-201 and NATS-Bench (topology) to the compact table of `nasbench201.Table`.

Both hold results by data set and seed, for every architecture and length of training. Pickles are read by an unpickler
that makes only containers and numbers.
"""

import bz2
import collections
import pathlib
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from darts_pt_jax.nasbench201 import TableError

METRICS = {
    "c10_test": ("200", "cifar10", "ori-test"),
    "c100_test": ("200", "cifar100", "x-test"),
    "in16_test": ("200", "ImageNet16-120", "x-test"),
    "c10_valid_nb201": ("200", "cifar10-valid", "x-valid"),
    "c100_valid_nb201": ("200", "cifar100", "x-valid"),
    "in16_valid_nb201": ("200", "ImageNet16-120", "x-valid"),
}
"""The table's columns: epochs of training, data set, and the images on which accuracy is measured."""

_LENGTHS = {"full": "200", "less": "12"}
"""Epochs of training by their name in version 1.0."""


def convert(source: pathlib.Path, target: pathlib.Path) -> int:
    """Writes the table of an official file or folder; returns its number of architectures.

    Raises:
      TableError: the source cannot be read, or is no official file.
    """
    archs, metrics = [], []
    if not source.exists():
        raise TableError(f"{source}: no such file or folder")
    try:
        for arch, results in _folder(source) if source.is_dir() else _torch_file(source):
            archs.append(arch.encode())
            metrics.append([_accuracy(results, *where) for where in METRICS.values()])
    except TableError:
        raise
    except Exception as error:  # a damaged pickle raises errors of many types, a MemoryError among them
        raise TableError(f"{source}: not an official file of NAS-Bench-201 or NATS-Bench: {error!r:.200}") from error
    if not archs:
        raise TableError(f"{source}: has no architectures")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp.npz")
    np.savez_compressed(
        temporary, arch=np.array(archs), metric_names=np.array(list(METRICS)), metrics=np.array(metrics, np.float32)
    )
    temporary.replace(target)
    return len(archs)


def _accuracy(results: Mapping, epochs: str, data: str, images: str) -> float:
    """Accuracy in percent, mean over the seeds; NaN if there is no trial."""
    trials = results[epochs]["all_results"]
    key = f"{images}@{int(epochs) - 1}"
    found = [trial["eval_acc1es"][key] for (name, _), trial in trials.items() if name == data]
    return float(np.mean(found)) if found else float("nan")


def _torch_file(source: pathlib.Path) -> Iterator[tuple[str, Mapping]]:
    try:
        import torch
    except ImportError:
        raise TableError(f"{source}: reading it needs torch: pip install torch") from None
    whole = torch.load(source, map_location="cpu", weights_only=True)
    for index, arch in enumerate(whole["meta_archs"]):
        yield arch, {_LENGTHS.get(name, name): value for name, value in whole["arch2infos"][index].items()}


def _folder(source: pathlib.Path) -> Iterator[tuple[str, Mapping]]:
    archs = _unpickle(source / "meta.pickle.pbz2")["meta_archs"]
    for index, arch in enumerate(archs):
        yield arch, _unpickle(source / f"{index:06d}.pickle.pbz2")


def _unpickle(file: pathlib.Path) -> Any:
    with bz2.open(file) as stream:
        return _Unpickler(stream).load()


class _Unpickler(pickle.Unpickler):
    """Makes plain values, ordered dictionaries and NumPy numbers; refuses everything else."""

    ALLOWED = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")

    def find_class(self, module: str, name: str):
        """An allowed class or function.

        Raises:
          UnpicklingError: it is not allowed.
        """
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if f"{module}.{name}" in self.ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

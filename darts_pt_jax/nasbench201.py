"""Accuracies of the 15,625 NAS-Bench-201 architectures (Dong & Yang, 2020) from a compact npz table.

The rows are in the benchmark's order, so that row numbers are the benchmark's indices. Accuracies are in percent, after
200 epochs, the mean over the available trials. c10_test is the test accuracy after training on CIFAR-10's whole training
set; c100_test and in16_test are measured on one half of the test images of CIFAR-100 and ImageNet16-120.
"""

import functools
import math
import pathlib

import numpy as np

from darts_pt_jax import notations, npz
from darts_pt_jax.notations import Node
from darts_pt_jax.spaces import NASBENCH201_OPERATIONS

SUMMARY = ("c10_test", "c100_test", "in16_test")
"""The metrics that reports show."""


class TableError(ValueError):
    """A table, or a question to it, is wrong; the message is one line."""


class Table:
    """The table: one row per architecture, one column per metric."""

    def __init__(self, path: str | pathlib.Path):
        """Reads an npz with arch [N] (bytes), metric_names [K] and metrics [N, K].

        Raises:
          TableError: the file is no such table.
        """
        if not pathlib.Path(path).is_file():
            raise TableError(
                f"{path}: no such file: python -m experiments.nasbench201 import makes one of the official files"
            )
        try:
            names, self._metrics, self._archs = npz.read(path, ("metric_names", "metrics", "arch")).values()
        except ValueError as error:
            raise TableError(f"{path}: not a table of NAS-Bench-201: {error}") from None
        kinds = names.dtype.kind, self._metrics.dtype.kind, self._archs.dtype.kind
        if kinds != ("U", "f", "S") or (names.ndim, self._archs.ndim) != (1, 1):
            raise TableError(f"{path}: not a table of NAS-Bench-201: expected names, accuracies, arch strings as bytes")
        shape = len(self._archs), len(names)
        if self._metrics.shape != shape or not len(self._archs):
            raise TableError(
                f"{path}: metrics are {self._metrics.shape}, expected {shape}, of one architecture or more"
            )
        self.names = names.tolist()

    def __len__(self) -> int:
        return len(self._archs)

    @functools.cached_property
    def _rows(self) -> dict[bytes, int]:
        return {name: i for i, name in enumerate(self._archs.tolist())}

    def row(self, arch: str | int) -> int:
        """The index of an architecture, given as its index or as text; the order of a node's inputs does not matter.

        Raises:
          TableError: it is not in the table.
        """
        if isinstance(arch, int) or arch.isdecimal():
            if not 0 <= int(arch) < len(self):
                raise TableError(f"index {arch} is not in the NAS-Bench-201 table, expected 0 to {len(self) - 1}")
            return int(arch)
        try:
            cells = notations.read(arch).cells
            notations.expect(list(cells) == ["normal"], "cells", ", ".join(cells), "one normal cell")
        except ValueError as error:
            raise TableError(f"no architecture of NAS-Bench-201: {error}") from None
        ordered = tuple(tuple(sorted(node, key=lambda pair: pair[1])) for node in cells["normal"])
        name = notations.write_nasbench201(ordered)
        found = self._rows.get(name.encode())
        if found is None:
            raise TableError(
                f"{name:.200} is not in the NAS-Bench-201 table of {len(self)} architectures{_reason(ordered)}"
            )
        return found

    def arch(self, row: int) -> str:
        """The arch string of an index."""
        return self._archs[row].decode()

    def accuracies(self, arch: str | int) -> dict[str, float]:
        """All metrics of an architecture by name.

        Raises:
          TableError: it is not in the table.
        """
        return dict(zip(self.names, self._metrics[self.row(arch)].tolist(), strict=True))

    def column(self, name: str) -> np.ndarray:
        """One metric of all architectures.

        Raises:
          TableError: the table has no such metric.
        """
        if name not in self.names:
            raise TableError(f"the table has no metric {name!r}, expected one of {', '.join(self.names)}")
        return self._metrics[:, self.names.index(name)]

    def rank(self, arch: str | int, name: str = "c10_test") -> int:
        """1 + the number of architectures that are strictly better."""
        return 1 + int((self.column(name) > self.column(name)[self.row(arch)]).sum())

    def random_choice(self, name: str = "c10_test") -> dict[str, float]:
        """Statistics of one metric over all architectures by name, among them the expected best of several random ones."""
        values = self.column(name).astype(np.float64)
        found = {"mean": values.mean(), "standard deviation": values.std(), "median": np.median(values)}
        found |= {f"percentile {p}": np.percentile(values, p) for p in (1, 5, 25, 75, 95, 99)}
        found |= {f"expected best of {n}": self.expected_best(n, name) for n in (10, 100, 1000) if n < len(values)}
        return {**found, "best of all": values.max()}

    def expected_best(self, count: int, name: str = "c10_test") -> float:
        """The expected best metric of `count` different random architectures, exactly.

        Raises:
          TableError: the table has fewer architectures.
        """
        values = np.sort(self.column(name).astype(np.float64))
        if not 1 <= count <= len(values):
            raise TableError(f"the best of {count}: expected 1 to {len(values)}")
        # the k-th smallest is the best where the other count - 1 are among the k before it
        log = [math.lgamma(n + 1) for n in range(len(values) + 1)]
        total = log[len(values)] - log[count] - log[len(values) - count]
        weights = [
            math.exp(log[k] - log[count - 1] - log[k - count + 1] - total) if k >= count - 1 else 0.0
            for k in range(len(values))
        ]
        return float(np.dot(weights, values))


def _reason(nodes: tuple[Node, ...]) -> str:
    """Why a cell is none of the benchmark; "" if it is one."""
    for operation, _ in (pair for node in nodes for pair in node):
        if operation not in NASBENCH201_OPERATIONS:
            return f": {operation} is none of its operations, {', '.join(NASBENCH201_OPERATIONS)}"
    if [[source for _, source in node] for node in nodes] != [[0], [0, 1], [0, 1, 2]]:
        return ": its cells have three nodes, with one input from every earlier state"
    return ""

"""Accuracies of the 15,625 NAS-Bench-201 architectures (Dong & Yang, 2020) from a compact npz table.

Its rows are in the benchmark's own order, so that their numbers are the benchmark's indices. Accuracies are percent, after
200 epochs, mean over the trials that there are: c10_test of networks trained on CIFAR-10's whole training set, c100_test
and in16_test on one half of the test images of CIFAR-100 and ImageNet16-120.
"""

import math
import pathlib

import numpy as np

from darts_pt_jax import npz

SUMMARY = ("c10_test", "c100_test", "in16_test")
"""The metrics that reports show."""


class TableError(ValueError):
    """A table, or what is looked up in it, is wrong; the message is one line."""


class Table:
    """The table: one row per architecture, one column per metric."""

    def __init__(self, path: str | pathlib.Path):
        """Reads an npz with arch [N] (bytes), metric_names [K] and metrics [N, K].

        Raises:
          TableError: it is none.
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
        self.names, self._rows = names.tolist(), None

    def __len__(self) -> int:
        return len(self._archs)

    def row(self, arch: str | int) -> int:
        """The index of an arch string, or of its index.

        Raises:
          TableError: the table does not know it.
        """
        if isinstance(arch, int) or arch.isdecimal():
            if not 0 <= int(arch) < len(self):
                raise TableError(f"index {arch} is not in the NAS-Bench-201 table, expected 0 to {len(self) - 1}")
            return int(arch)
        if self._rows is None:
            self._rows = {name: i for i, name in enumerate(self._archs.tolist())}
        found = self._rows.get(arch.encode())
        if found is None:
            raise TableError(f"{arch} is not in the NAS-Bench-201 table of {len(self)} architectures")
        return found

    def arch(self, row: int) -> str:
        """The arch string of an index."""
        return self._archs[row].decode()

    def accuracies(self, arch: str | int) -> dict[str, float]:
        """All metrics of an architecture, by arch string or index.

        Raises:
          TableError: the table does not know it.
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
        """What one metric of a random architecture is, and the best of several, exact over all, by what is said."""
        values = self.column(name).astype(np.float64)
        of = {"mean": values.mean(), "standard deviation": values.std(), "median": np.median(values)}
        of |= {f"percentile {p}": np.percentile(values, p) for p in (1, 5, 25, 75, 95, 99)}
        of |= {f"expected best of {n}": self.expected_best(n, name) for n in (10, 100, 1000) if n < len(values)}
        return {**of, "best of all": values.max()}

    def expected_best(self, count: int, name: str = "c10_test") -> float:
        """The mean over all draws of the best of `count` different random architectures.

        Raises:
          TableError: the table has fewer.
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

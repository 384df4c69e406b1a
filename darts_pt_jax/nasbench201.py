"""Accuracies of the 15,625 NAS-Bench-201 architectures (Dong & Yang, 2020) from a compact npz table."""

import pathlib

import numpy as np

SUMMARY = ("c10_test", "c100_test", "in16_test")
"""The metrics that reports show."""


class Table:
    """The table: one row per architecture, one column per metric, such as "c10_test" (percent)."""

    def __init__(self, path: str | pathlib.Path):
        """Reads an npz with arch [N] (bytes), metric_names [K] and metrics [N, K]."""
        with np.load(path, allow_pickle=False) as file:
            self.names = file["metric_names"].tolist()
            self._metrics = file["metrics"]
            self._rows = {arch.decode(): i for i, arch in enumerate(file["arch"])}

    def accuracies(self, arch: str) -> dict[str, float]:
        """All metrics of an arch string.

        Raises:
          KeyError: the table does not know the architecture.
        """
        if arch not in self._rows:
            raise KeyError(f"{arch} is not in the NAS-Bench-201 table of {len(self._rows)} architectures")
        return dict(zip(self.names, self._metrics[self._rows[arch]].tolist(), strict=True))

    def column(self, name: str) -> np.ndarray:
        """One metric of all architectures."""
        return self._metrics[:, self.names.index(name)]

    def rank(self, arch: str, name: str = "c10_test") -> int:
        """1 + the number of architectures that are strictly better."""
        return 1 + int((self.column(name) > self.accuracies(arch)[name]).sum())

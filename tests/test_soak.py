"""Hundreds of decision cycles: memory, open files, threads and disk do not grow."""

import os
import pathlib
import threading

import pytest

from darts_pt_jax.experiments.engine.run import Run
from tests.command import CELL, SOAK, lines, run

ORDERS = 84 if SOAK else 8
"""Number of selections, each of six decisions with a tuning epoch and a checkpoint after each."""

MEGABYTES = 2**20


def resident():
    """Bytes of memory of this process."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_decision_cycles_leave_nothing_behind(tmp_path, monkeypatch):
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("it reads /proc")
    seen, save = [], Run._save

    def look(self, *args):
        save(self, *args)
        kept = [len(list((self.directory / name).iterdir())) for name in ("checkpoints", "snapshots")]
        seen.append((resident(), len(os.listdir("/proc/self/fd")), threading.active_count(), *kept))

    monkeypatch.setattr(Run, "_save", look)
    keys = {**CELL, "select.interval": 1, "select.orders": ORDERS, "checkpoint.keep": 3, "eval.every": 1000}
    assert run(tmp_path / "run", keys) == 0
    assert len(lines(tmp_path / "run", "decisions.jsonl")) == 6 * ORDERS
    memory, files, threads, checkpoints, snapshots = zip(*seen[len(seen) // 4 :], strict=True)
    assert max(memory) - memory[0] < (100 if SOAK else 50) * MEGABYTES, [m // MEGABYTES for m in memory]
    assert max(files) <= files[0] + 1 and max(threads) <= threads[0] + 1
    assert max(checkpoints) == 3 and max(snapshots) == 1
    print(
        f"{6 * ORDERS} cycles: {memory[0] // MEGABYTES} to {max(memory) // MEGABYTES} MB, {files[-1]} files, {threads[-1]} threads"
    )

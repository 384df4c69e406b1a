"""Processes of several hosts that carry out one command together, each with its own devices (`jax.distributed`).

All go through the same steps, read the same files, and hold the same values; the first alone writes. Where there is one
process, nothing here costs anything, not even to import jax.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

LOST = 30
"""Seconds after which a host that gives no sign is given up; the others end then."""


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None):
    """Becomes one of several processes; what is not given, jax finds out (Slurm, Open MPI, Kubernetes, TPU pods).

    Args:
      coordinator: HOST:PORT of the first process.
      processes: how many there are.
      process: the number of this one, from 0.

    Raises:
      ValueError: something is not given, and there is nothing that jax recognises.
      RuntimeError: the others do not come.
    """
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    find = "deactivate" if coordinator else None  # else jax would give each process of a host one of its devices
    jax.distributed.initialize(
        coordinator, processes, process, cluster_detection_method=find, heartbeat_timeout_seconds=LOST,
        shutdown_timeout_seconds=24 * 3600,
    )  # fmt: skip


def leave(code: int):
    """Ends this process of several: with the others if its work is done, which they may still be at; else at once.

    A host that ends without the others ends them too. The first, which they know it by, gives them time to say why they
    end themselves.
    """
    if not several():
        return
    if not code:
        sys.modules["jax"].distributed.shutdown()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if first():
        time.sleep(2)
    os._exit(code)  # sooner than jax's own farewell, which waits for the others


def several() -> bool:
    """Whether this process is one of several."""
    return (jax := _joined()) is not None and jax.process_count() > 1


def first() -> bool:
    """Whether this process writes."""
    return number() == 0


def number() -> int:
    """Of this process, from 0."""
    return 0 if (jax := _joined()) is None else jax.process_index()


def _joined():
    """jax, if this process has joined others."""
    jax = sys.modules.get("jax")
    return jax if jax and jax.distributed.is_initialized() else None


def _utils():
    from jax.experimental import multihost_utils

    return multihost_utils


def meet(where: str):
    """Waits until all hosts are here: what the first has written before, the others can read after."""
    if several():
        _utils().sync_global_devices(where)


def largest(number: int) -> int:
    """The largest of the hosts' numbers, each of 32 bits."""
    return int(_utils().process_allgather(np.int32(number)).max()) if several() else number


def of_first(value: Any) -> Any:
    """What the first host has, whatever the others do: a JSON value."""
    if not several():
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(_utils().broadcast_one_to_all(np.int32(len(text))))
    return json.loads(bytes(_utils().broadcast_one_to_all(np.resize(text, length))))

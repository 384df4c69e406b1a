"""Several hosts that carry out one command together, one process each, with its own devices (`jax.distributed`).

All take the same steps, read the same files, and hold the same values; only the first writes. With one process, nothing
here costs time, and jax is not imported.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

LOST = 30
"""Seconds without a sign of life after which a host counts as lost, and the others end."""


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None):
    """Joins the other processes. Arguments that are None are found by jax (Slurm, Open MPI, Kubernetes, TPU pods).

    Args:
      coordinator: HOST:PORT of the first process.
      processes: their number.
      process: the number of this process, from 0.

    Raises:
      ValueError: an argument is None, and jax recognises no environment that tells it.
      RuntimeError: the other processes do not join.
    """
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM
    find = "deactivate" if coordinator else None  # else jax gives each process one device of its host
    timeouts: dict[str, Any] = {"heartbeat_timeout_seconds": LOST, "shutdown_timeout_seconds": 24 * 3600}
    jax.distributed.initialize(coordinator, processes, process, cluster_detection_method=find, **timeouts)


def leave(code: int):
    """Ends this process, if it is one of several: together with the others if its work is done (code 0), else at once.

    A host that ends alone ends the others too. The first host waits two seconds before, so that others which fail as
    well can still say why.
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
    os._exit(code)  # jax's own shutdown would wait for the others


def several() -> bool:
    """Whether this process is one of several."""
    return (jax := _joined()) is not None and jax.process_count() > 1


def first() -> bool:
    """Whether this process writes."""
    return number() == 0


def number() -> int:
    """The number of this process, from 0."""
    return 0 if (jax := _joined()) is None else jax.process_index()


def _joined():
    """The module jax, if this process has joined others."""
    jax = sys.modules.get("jax")
    return jax if jax and jax.distributed.is_initialized() else None


def _utils():
    from jax.experimental import multihost_utils

    return multihost_utils


def meet(where: str):
    """Waits for all hosts, so that they can read what the first has written before."""
    if several():
        _utils().sync_global_devices(where)


def largest(number: int) -> int:
    """The largest of the hosts' numbers, which are int32."""
    return int(_utils().process_allgather(np.int32(number)).max()) if several() else number


def of_first(value: Any) -> Any:
    """The first host's value, a JSON value, on every host."""
    if not several():
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(_utils().broadcast_one_to_all(np.int32(len(text))))
    return json.loads(bytes(_utils().broadcast_one_to_all(np.resize(text, length))))

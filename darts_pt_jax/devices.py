"""The devices of a run: they split every batch between them and hold a copy of everything else.

Programs do not say how they are split. `Devices` places the arguments and the results, and XLA derives the rest: work
on an image stays on the device that holds it, and sums over a batch, BatchNorm's too, become sums over devices.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MASKS, DATA = "masks", "data"

OPTIONS = {
    "gpu": {"xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,CONDITIONAL,DYNAMIC_SLICE_FUSION,CONVOLUTION"},
}  # fmt: skip
"""By platform, what programs ask of XLA. On GPUs, command buffers hold what they hold by default, and convolutions."""


class Devices:
    """A mesh of devices that splits batches; for scoring, its axes are (masks, data), and the first splits masks.

    Attributes:
      mesh: the mesh.
      whole: the sharding of arrays that every device holds in full.
      batch: the sharding of arrays [B, ...] that are split along B.
    """

    def __init__(self, devices: Sequence[jax.Device], masks: int | None = None):
        """Arranges the devices along one axis, or as (masks, data) if `masks` is given, which must divide their number."""
        self._devices = tuple(devices)
        shape, axes = ((-1,), (DATA,)) if masks is None else ((masks, -1), (MASKS, DATA))
        self.mesh = Mesh(np.reshape(self._devices, shape), axes, axis_types=(AxisType.Auto,) * len(axes))
        self.whole, self.batch = self._placed(), self._placed(DATA)

    @classmethod
    def here(cls, count: int = 0) -> "Devices":
        """The first `count` devices of every process (0: all).

        Raises:
          ValueError: a process has fewer than `count`, or processes differ in their number of devices.
        """
        of_process = [jax.local_devices(process_index=i) for i in range(jax.process_count())]
        numbers = [len(local) for local in of_process]
        fewest, most = min(numbers), max(numbers)
        if count > fewest or (not count and fewest < most):
            kind, less = jax.devices()[0].device_kind, f" on one host, and {most} on another" * (fewest < most)
            advice = f": take at most {fewest}" if count else ", expected as many"
            raise ValueError(f"there are {fewest} ({kind}){less}{advice}")
        return cls([device for local in of_process for device in local[: count or None]])

    @property
    def count(self) -> int:
        """The number of devices."""
        return len(self._devices)

    @property
    def hosts(self) -> int:
        """The number of hosts; each has the same number of devices."""
        return len({device.process_index for device in self._devices})

    @property
    def platform(self) -> str:
        """The platform that programs for these devices are compiled for: "cpu", "gpu" or "tpu"."""
        return self._devices[0].platform

    @property
    def options(self) -> dict[str, str]:
        """What programs for these devices ask of XLA: `OPTIONS`, unless the user decides, by the variable XLA_FLAGS."""
        return {} if os.environ.get("XLA_FLAGS") else OPTIONS.get(self.platform, {})

    def __str__(self) -> str:
        """The number and kind of the devices, and the number of hosts if there are several."""
        return f"{self.count} {self._devices[0].device_kind}" + f" of {self.hosts} hosts" * (self.hosts > 1)

    def _placed(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def put(self, tree: Any, sharding: NamedSharding) -> Any:
        """Copies a tree of arrays, which is the same on every host, to the devices, as the sharding says."""
        return jax.device_put(tree, sharding)

    def everywhere(self, tree: Any) -> Any:
        """Copies a tree of arrays, which is the same on every host, to every device."""
        return self.put(tree, self.whole)

    def shapes(self, function: Callable, *args) -> Any:
        """`jax.eval_shape` with results that every device holds."""
        shapes = jax.eval_shape(function, *args)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.whole), shapes)

    def split(self, indices) -> jax.Array:
        """Splits indices [..., B], which are the same on every host, along B."""
        return self.put(indices, self._placed(*(None,) * (np.ndim(indices) - 1), DATA))

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch that belong to this host."""
        count = batch_size // jax.process_count()
        return slice(count * jax.process_index(), count * (jax.process_index() + 1))

    def from_rows(self, rows: np.ndarray) -> jax.Array:
        """Joins the `rows` [B / hosts, ...] of every host into an array [B, ...] that is split along B."""
        return jax.make_array_from_process_local_data(self.batch, rows)

    def masks(self, masks) -> jax.Array:
        """Splits masks [M, ...], which are the same on every host, along M; the mask axis of the mesh divides M."""
        return self.put(masks, self._placed(MASKS))

    def jit(self, function: Callable, out: Any = None, place: Callable | None = None, **options) -> "Program":
        """`jax.jit` for these devices.

        Args:
          function: the function to jit.
          out: the sharding of its results; by default every device holds them.
          place: maps its arguments to a tuple of the same arguments, placed on the devices.
          **options: further options of `jax.jit`.
        """
        jit = functools.partial(jax.jit, function, out_shardings=out or self.whole, **options)
        return Program(jit(compiler_options=self.options), jit(), self.mesh, place or (lambda *args: args))

    def for_scoring(self, masks: int, batch_size: int) -> "Devices":
        """The same devices, arranged to score `masks` masks at once with the least work for each device.

        Between equal arrangements, the one with the most devices along the mask axis wins: these need not communicate.
        """
        fitting = [m for m in range(1, self.count + 1) if self.count % m == 0 and batch_size % (self.count // m) == 0]
        work = {m: -(-masks // m) * (batch_size // (self.count // m)) for m in fitting}
        return type(self)(self._devices, min(fitting, key=lambda m: (work[m], -m)))

    def filled(self, masks: int) -> int:
        """`masks`, rounded up to a multiple of the mask axis."""
        shards = self.mesh.shape[MASKS]
        return -(-masks // shards) * shards

    def nearest(self, size: int) -> list[int]:
        """The nearest batch sizes below and above `size` that the devices divide; those below 2 are left out."""
        below = size // self.count * self.count
        return [near for near in (below, below + self.count) if near >= 2]


class Program:
    """A function jitted for a mesh."""

    def __init__(self, jitted: Any, part: Any, mesh: Mesh, place: Callable):
        """Takes two results of `jax.jit`, of which calls compile one, and `place` as in `Devices.jit`.

        Args:
          jitted: the function as a program.
          part: the function as a part of a larger program, which has the options for XLA.
          mesh: the mesh.
          place: places the arguments.
        """
        self._jitted, self._part, self._mesh, self._place = jitted, part, mesh, place

    def __call__(self, *args):
        """Calls the function with its arguments placed."""
        jitted = self._part if self._inside() else self._jitted
        with self._entered():
            return jitted(*self._place(*args))

    def trace(self, *args) -> jax.stages.Traced:
        """Traces the function as the `trace` of a jitted function does: arguments may be `jax.ShapeDtypeStruct`s."""
        with self._entered():
            return self._jitted.trace(*self._place(*args))

    def _inside(self) -> bool:
        """Whether a program for the same mesh calls this one."""
        return jax.sharding.get_abstract_mesh() == self._mesh.abstract_mesh

    def _entered(self):
        """A context that sets the mesh, or does nothing where the program that calls this one has set it."""
        return contextlib.nullcontext() if self._inside() else jax.set_mesh(self._mesh)


def shards(batch: jax.Array) -> tuple[int | None, int]:
    """Shards of the mask axis (None outside scoring) and of B in [B, ...], in the program that is being traced."""
    axes = jax.sharding.get_abstract_mesh().shape
    parts = axes.get(DATA, 1)
    size = batch.shape[0]  # not `len`: B is a symbol while a network is exported
    return axes.get(MASKS), 1 if size % parts else parts


def platform() -> str | None:
    """The platform of the program that is being traced, as `Devices.platform`; None if no mesh tells it."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return None if device is None else device.platform

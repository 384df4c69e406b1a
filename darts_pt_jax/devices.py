"""The devices that go through every step together: batches are split over them, everything else is on each of them.

No program says how it is split. Arguments are placed, results are asked for in a place, and XLA finds the rest: what is
computed of each image stays where the image is, and sums over a batch, BatchNorm's too, become sums over devices.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MASKS, DATA = "masks", "data"


class Devices:
    """A mesh of devices, along which batches are split; to score, one of two axes [masks, data], the first for masks.

    Attributes:
      mesh: the mesh.
      whole: the placement of what is on every device.
      batch: that of arrays [B, ...], split by their first axis.
    """

    def __init__(self, devices: Sequence[jax.Device], masks: int | None = None):
        """Arranges the devices, whose number `masks` divides, if it is given."""
        self._devices = tuple(devices)
        shape, axes = ((-1,), (DATA,)) if masks is None else ((masks, -1), (MASKS, DATA))
        self.mesh = Mesh(np.reshape(self._devices, shape), axes, axis_types=(AxisType.Auto,) * len(axes))
        self.whole, self.batch = self._placed(), self._placed(DATA)

    @classmethod
    def here(cls, count: int = 0) -> "Devices":
        """The first `count` devices of every process (0: all).

        Raises:
          ValueError: a process has fewer, or others than the rest.
        """
        of_process = [jax.local_devices(process_index=i) for i in range(jax.process_count())]
        fewest, most = (of(map(len, of_process)) for of in (min, max))
        if count > fewest or (not count and fewest < most):
            kind, less = jax.devices()[0].device_kind, f" on one host, and {most} on another" * (fewest < most)
            raise ValueError(
                f"there are {fewest} ({kind}){less}, expected {f'at least {count}' if count else 'as many'}"
            )
        return cls([device for local in of_process for device in local[: count or None]])

    @property
    def count(self) -> int:
        """How many devices there are."""
        return len(self._devices)

    @property
    def hosts(self) -> int:
        """Of how many hosts they are, each of which has as many."""
        return len({device.process_index for device in self._devices})

    def __str__(self) -> str:
        """Their number and kind, and of how many hosts they are."""
        return f"{self.count} {self._devices[0].device_kind}" + f" of {self.hosts} hosts" * (self.hosts > 1)

    def _placed(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def everywhere(self, tree: Any) -> Any:
        """A tree of arrays, the same on every host, on every device."""
        return jax.device_put(tree, self.whole)

    def shapes(self, function: Callable, *args) -> Any:
        """`jax.eval_shape`, of results on every device."""
        shapes = jax.eval_shape(function, *args)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.whole), shapes)

    def split(self, indices) -> jax.Array:
        """Indices [..., B], the same on every host, split by their last axis."""
        return jax.device_put(indices, self._placed(*(None,) * (np.ndim(indices) - 1), DATA))

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch that this host's devices have."""
        of_host = batch_size // jax.process_count()
        return slice(of_host * jax.process_index(), of_host * (jax.process_index() + 1))

    def from_rows(self, rows: np.ndarray) -> jax.Array:
        """Of what each host has in its `rows`, an array [B, ...] split by its first axis."""
        return jax.make_array_from_process_local_data(self.batch, rows)

    def masks(self, masks) -> jax.Array:
        """Masks [M, ...], the same on every host, split by their first axis, which the devices along it divide."""
        return jax.device_put(masks, self._placed(MASKS))

    def jit(self, function: Callable, out: Any = None, place: Callable | None = None, **options) -> "Program":
        """`jax.jit` for these devices, with its `options`.

        Args:
          function: what is jitted.
          out: where its results are; by default on every device.
          place: is given its arguments, and returns them where they are to be.
          **options: of `jax.jit`.
        """
        return Program(function, self.mesh, out or self.whole, place or (lambda *args: args), options)

    def for_scoring(self, masks: int, batch_size: int) -> "Devices":
        """The same devices, arranged for a call of so many masks on a batch: the least work for a device.

        Of equal arrangements it is that with the most devices along the masks, which have nothing to tell each other.
        """
        fit = [m for m in range(1, self.count + 1) if self.count % m == 0 and batch_size % (self.count // m) == 0]
        work = {m: -(-masks // m) * (batch_size // (self.count // m)) for m in fit}
        return Devices(self._devices, min(fit, key=lambda m: (work[m], -m)))

    def filled(self, masks: int) -> int:
        """The least number of masks, not below `masks`, that the first axis divides."""
        of = self.mesh.shape[MASKS]
        return -(-masks // of) * of

    def nearest(self, size: int) -> list[int]:
        """The batch sizes nearest to `size` that the devices divide, below and above."""
        below = size // self.count * self.count
        return [near for near in (below, below + self.count) if near >= 2]


class Program:
    """A function that is jitted for a mesh."""

    def __init__(self, function: Callable, mesh: Mesh, out: Any, place: Callable, options: dict):
        """Compiles nothing yet."""
        self._mesh, self._place = mesh, place
        self._jitted = jax.jit(function, out_shardings=out, **options)

    def __call__(self, *args):
        """What the function gives."""
        with self._entered():
            return self._jitted(*self._place(*args))

    def trace(self, *args) -> jax.stages.Traced:
        """As `trace` of what `jax.jit` returns: arguments may be `jax.ShapeDtypeStruct`."""
        with self._entered():
            return self._jitted.trace(*self._place(*args))

    def _entered(self):
        """The mesh, unless a program for it is being traced, which calls this one."""
        within = jax.sharding.get_abstract_mesh() == self._mesh.abstract_mesh
        return contextlib.nullcontext() if within else jax.set_mesh(self._mesh)


def shards(batch: jax.Array) -> tuple[int | None, int]:
    """Into how many parts the program that is being traced splits masks (None: it scores none) and a batch [B, ...]."""
    of = jax.sharding.get_abstract_mesh().shape
    size = batch.shape[0]  # a symbol, which `len` refuses, while a network is exported
    return of.get(MASKS), 1 if size % of.get(DATA, 1) else of.get(DATA, 1)


def traced_platform() -> str | None:
    """The platform ("cpu", "gpu", "tpu") of the mesh that a program is being traced for; None without a mesh."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return None if device is None else device.platform

"""Passes over labelled images, in the device's memory or streamed.

`feed.training(key, batch_size)` and `feed.testing(batch_size)` return a function of the batch number. Its result goes into
a jitted step, where `feed.batch` turns it into images and labels. Batch numbers have to ascend.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.data import batches
from darts_pt_jax.data.batches import Recipe
from darts_pt_jax.data.images import Images
from darts_pt_jax.data.streams import Batch, Stream
from darts_pt_jax.devices import Devices


class Feed(Protocol):
    """A data set for training and testing."""

    def training(self, key: jax.Array, batch_size: int) -> Callable[[int], Any]:
        """A pass over the training images, shuffled by `key`; images that do not fill the last batch are dropped."""

    def testing(self, batch_size: int) -> Callable[[int], Any]:
        """A pass over the test images in order; repeats of the last image fill the last batch."""

    def batch(self, given: Any, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """`batches.prepared` images float32 [B, H, W, C] and labels int32 [B]; no augmentation if `key` is None."""


def feed(images: Images | Stream, recipe: Recipe, devices: Devices) -> Feed:
    """The feed for images in memory or for a stream; it splits batches over the devices."""
    if isinstance(images, Stream):
        return _Streamed(images, recipe, devices)
    return _Resident(images, recipe, devices)


class _Resident:
    """Keeps all images on every device; a step is given the indices of its batch."""

    def __init__(self, images: Images, recipe: Recipe, devices: Devices):
        self._devices = devices
        self._train = batches.resident(images.train_images, images.train_labels, recipe, devices)
        self._test = batches.resident(images.test_images, images.test_labels, recipe, devices)
        self._draw = jax.jit(batches.epoch_indices, static_argnums=(1, 2, 3))

    def training(self, key, batch_size):
        size = self._train.size
        indices = self._devices.split(self._draw(key, size, size // batch_size, batch_size))
        return lambda i: (self._train, indices, i)

    def testing(self, batch_size):
        size = self._test.size
        numbers = np.arange(-(-size // batch_size) * batch_size).clip(max=size - 1)
        indices = self._devices.split(numbers.reshape(-1, batch_size))
        return lambda i: (self._test, indices, i)

    def batch(self, given, key):
        dataset, indices, i = given
        return batches.batch(dataset, indices[i], key)


class _Streamed:
    """Reads the images of a batch on the host; a step is given the batch itself."""

    def __init__(self, stream: Stream, recipe: Recipe, devices: Devices):
        self._stream, self._recipe, self._devices = stream, devices.everywhere(recipe), devices

    def training(self, key, batch_size):
        seed = int(jax.random.bits(key, dtype=jnp.uint32))
        rows = self._devices.rows(batch_size)
        return self._numbered(lambda start: self._stream.training(seed, batch_size, start, rows))

    def testing(self, batch_size):
        rows = self._devices.rows(batch_size)
        return self._numbered(lambda start: self._stream.testing(batch_size, start, rows))

    def batch(self, given, key):
        recipe, images, labels = given
        return batches.prepared(images, recipe, key), labels

    def _numbered(self, begin: Callable[[int], Iterator[Batch]]) -> Callable[[int], Any]:
        """A function of the batch number; its first call decides where the pass begins."""
        stream = None

        def take(i):
            nonlocal stream
            if stream is None:
                stream = begin(i)
            return self._recipe, *map(self._devices.from_rows, next(stream))

        return take

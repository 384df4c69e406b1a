"""Passes over labelled images, from the device's memory or from a stream.

`feed.training(key, batch_size)` and `feed.testing(batch_size)` are functions of a batch's number: what they return goes
into a jitted step, where `feed.batch` makes the images of it. Numbers are asked for in ascending order.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.data import batches
from darts_pt_jax.data.batches import Recipe
from darts_pt_jax.data.images import Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices


class Feed(Protocol):
    """A data set for training and testing."""

    def training(self, key: jax.Array, batch_size: int) -> Callable[[int], Any]:
        """A shuffled pass over the training images, less what does not fill a batch; all that is drawn is of `key`."""

    def testing(self, batch_size: int) -> Callable[[int], Any]:
        """A pass over the test images in order; the last batch is filled up with the last image."""

    def batch(self, given: Any, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """`batches.prepared` images [B, H, W, C] and labels [B]; without a `key` nothing is augmented."""


def feed(images: Images | Stream, recipe: Recipe, devices: Devices) -> Feed:
    """The one that images need; batches are split over the devices."""
    if isinstance(images, Stream):
        return _Streamed(images, recipe, devices)
    return _Resident(images, recipe, devices)


class _Resident:
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
        padded = np.arange(-(-size // batch_size) * batch_size).clip(max=size - 1)
        indices = self._devices.split(padded.reshape(-1, batch_size))
        return lambda i: (self._test, indices, i)

    def batch(self, given, key):
        dataset, indices, i = given
        return batches.batch(dataset, indices[i], key)


class _Streamed:
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

    def _numbered(self, begin):
        """Batches by number, which go on where they are first asked for."""
        passing = None

        def take(i):
            nonlocal passing
            if passing is None:
                passing = begin(i)
            return self._recipe, *map(self._devices.from_rows, next(passing))

        return take

"""Checks of a config against the images, the devices and the network of a run."""

import math
from collections.abc import Sequence

import numpy as np

from darts_pt_jax.data import batches
from darts_pt_jax.data.batches import Dataset, Recipe
from darts_pt_jax.data.images import DataError, Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config.schema import Config, value
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.selection import sgas
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.spaces import SPACES


def devices_of(config: Config) -> Devices:
    """The devices that the config asks for.

    Raises:
      ConfigError: there are fewer.
    """
    try:
        return Devices.here(config.devices)
    except ValueError as error:
        raise ConfigError(f"devices is {config.devices}, but {error}") from error


def check_divides(devices: Devices, key: str, size: int):
    """Checks that the devices divide a batch size, the value of `key`.

    Raises:
      ConfigError: they do not.
    """
    if size % devices.count:
        nearest = " or ".join(map(str, devices.nearest(size)))
        fewer = [n for n in range(1, devices.count // devices.hosts) if size % (devices.hosts * n) == 0]
        alternative = f", or devices to {fewer[-1]}" if fewer else ""
        raise ConfigError(
            f"{key} is {size}, which the {devices.count} devices do not divide: set it to {nearest}{alternative}"
        )


def check_batches(config: Config, devices: Devices):
    """Checks that the devices divide the batches of search and selection.

    Raises:
      ConfigError: they do not.
    """
    check_divides(devices, "search.batch_size", config.search.batch_size)
    if METHODS[config.select.method].greedy:
        check_divides(devices, "sgas.batch_increase", config.sgas.batch_increase)


def check_side(image_shape: Sequence[int], reductions: int):
    """Checks that the images are large enough for `reductions` halvings of their sides.

    Raises:
      DataError: they are not.
    """
    height, width, _ = image_shape
    if min(height, width) < 2**reductions:
        raise DataError(
            f"data: images are {height}x{width}, too small for {reductions} reductions: expected at least "
            f"{2**reductions}x{2**reductions} (see data.size)"
        )


def check_channels(config: Config, images: Images | Stream):
    """Checks that data.mean and data.std fit the channels of the images.

    Raises:
      DataError: they do not fit.
    """
    channels = images.image_shape[2]
    if config.data.mean and {len(config.data.mean), len(config.data.std)} != {channels}:
        raise DataError(f"data.mean and data.std need one number per channel, the images have {channels}")


def weight_images(config: Config, count: int) -> int:
    """How many of `count` training images, the first ones, train the weights; the others train alphas and score."""
    return math.ceil(config.data.train_fraction * count - 0.5)  # the nearest whole number; a half is rounded down


def split(config: Config, images: Images, devices: Devices) -> tuple[Dataset, Dataset]:
    """Splits the training set, in its order: one half for the weights, one for alphas and scores (DARTS, section 3.1).

    Raises:
      DataError: a half has fewer images than a batch, or the settings do not fit the images.
    """
    batch_size, count = config.search.batch_size, len(images.train_images)
    border = weight_images(config, count)
    smallest = min(border, count - border)
    if smallest < batch_size:
        raise DataError(f"search.batch_size is {batch_size}, but a part of the training set has {smallest} images")
    if METHODS[config.select.method].greedy:
        points = len(sgas.decision_points(SPACES[config.space]))
        if smallest < (largest := batch_size + points * config.sgas.batch_increase):
            raise DataError(
                f"sgas.batch_increase is {config.sgas.batch_increase}, which leads to batches of {largest}, but a part of "
                f"the training set has {smallest} images"
            )
    for key in ("select.images", "eval.images", *(["curvature.images"] if config.curvature.every else [])):
        wanted = value(config, key)
        if wanted and not batch_size <= wanted <= count - border:
            raise DataError(
                f"{key} is {wanted}, expected 0 or from search.batch_size ({batch_size}) to {count - border}"
            )
    seen, needed = (set(labels.tolist()) for labels in np.split(images.train_labels, [border]))
    if missing := sorted(needed - seen):
        raise DataError(
            f"data: the first {border} images train the weights, but none of them has class {missing[0]}: shuffle the file"
        )
    treatment = recipe(config, images, border)
    halves = (slice(0, border), slice(border, count))
    return tuple(batches.resident(images.train_images[h], images.train_labels[h], treatment, devices) for h in halves)


def recipe(config: Config, images: Images | Stream, count: int, **more) -> Recipe:
    """How to augment and normalise images.

    Args:
      config: the config.
      images: the images.
      count: number of training images, from the first, that give mean and standard deviation if the config does not.
      more: further fields.

    Raises:
      DataError: the settings do not fit the images.
    """
    check_channels(config, images)
    data = config.data
    mean, std = (data.mean, data.std) if data.mean else batches.statistics(images.train_images[:count])
    return Recipe(
        mean=np.asarray(mean, np.float32),
        std=np.asarray(std, np.float32),
        pad=images.pad if data.pad < 0 else data.pad,
        flip=images.flip if data.flip == "default" else data.flip == "on",
        **more,
    )

"""Batches on the device: draws images, then augments and normalises them inside the step.

All randomness comes from the key that is passed in.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.devices import Devices


@flax.struct.dataclass
class Labelled:
    """Labelled images on the device.

    Attributes:
      images: uint8 [N, H, W, C].
      labels: int32 [N].
    """

    images: jax.Array
    labels: jax.Array

    @property
    def size(self) -> int:
        """N, the number of images."""
        return self.images.shape[0]


@flax.struct.dataclass
class Recipe:
    """How images are augmented and normalised before a network sees them.

    Attributes:
      mean, std: float32 [C], of pixels scaled to [0, 1].
      pad: zero padding in pixels before the random crop; 0: no crop.
      flip: whether training images are flipped horizontally at random.
      cutout: side in pixels of the square that is set to zero in training images, after normalisation; 0: none.
      jitter: the largest changes of brightness, contrast, saturation and hue in training images, like the arguments of
        torchvision's ColorJitter; (): none. For each image, a factor of each of the first three is drawn, uniform in
        [1 - b, 1 + b] and not below 0, and a shift of the hue, uniform in [-h, h] turns. The order of the four is drawn
        once for the whole batch; torchvision draws it for each image.
    """

    mean: jax.Array
    std: jax.Array
    pad: int = flax.struct.field(pytree_node=False)
    flip: bool = flax.struct.field(pytree_node=False)
    cutout: int = flax.struct.field(pytree_node=False, default=0)
    jitter: tuple[float, ...] = flax.struct.field(pytree_node=False, default=())


@flax.struct.dataclass
class Dataset(Recipe, Labelled):  # fields of the last base come first
    """Labelled images on the device with their recipe: images, labels, mean, std, pad, flip, cutout, jitter."""


def resident(images: np.ndarray, labels: np.ndarray, recipe: Recipe, devices: Devices) -> Dataset:
    """Copies images uint8 [N, H, W, C] and labels [N] from the host to every device."""
    on_host = Dataset(images, labels, **vars(recipe))  # type: ignore[arg-type]  # arrays of the host, until the next line
    return devices.everywhere(on_host)


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, float32 [C] each, over all pixels of uint8 images [N, H, W, C] scaled to [0, 1]."""
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[-1])])
    levels, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, 1e-3).astype(np.float32)


def epoch_indices(key: jax.Array, size: int, steps: int, batch_size: int) -> jax.Array:
    """One pass over shuffled images: int32 [steps, batch_size]. Images that do not fill the last batch are dropped."""
    return jax.random.permutation(key, size)[: steps * batch_size].reshape(steps, batch_size)


def independent_indices(key: jax.Array, size: int, steps: int, batch_size: int) -> jax.Array:
    """Every batch a new random subset without replacement (Floyd's algorithm): int32 [steps, batch_size]."""
    start = size - batch_size
    last = start + jnp.arange(batch_size)
    draws = jax.random.randint(key, (steps, batch_size), 0, last + 1)

    def add(i: int, chosen: jax.Array) -> jax.Array:
        taken = (chosen == draws[:, i, None]).any(1)
        return chosen.at[:, i].set(jnp.where(taken, start + i, draws[:, i]))

    return jax.lax.fori_loop(0, batch_size, add, jnp.full((steps, batch_size), -1, jnp.int32))


SAMPLING = {"independent": independent_indices, "epoch": epoch_indices}
"""Ways to draw the batches of an epoch, by name."""


def batch(dataset: Dataset, indices: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """The images and labels at `indices` [B].

    Args:
      dataset: to draw from.
      indices: int [B].
      key: of the augmentation; None: no augmentation.

    Returns:
      `prepared` images, float32 [B, H, W, C], and int32 labels [B].
    """
    return prepared(dataset.images[indices], dataset, key), dataset.labels[indices]


def prepared(images: jax.Array, recipe: Recipe, key: jax.Array | None) -> jax.Array:
    """Augments and normalises a batch.

    Applies, in this order: random crop after zero padding, random horizontal flip, colour jitter, normalisation, cutout.

    Args:
      images: uint8 [B, H, W, C]; C is 3 if the recipe has jitter.
      recipe: the settings.
      key: of the augmentation; None: only normalises.

    Returns:
      Normalised float32 images [B, H, W, C].

    Raises:
      ValueError: the recipe has jitter, and the images are not RGB.
    """
    if key is not None:
        crop_key, flip_key = jax.random.split(key)
        if recipe.pad:
            images = _crop(images, recipe.pad, crop_key)
        if recipe.flip:
            flip = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
            images = jnp.where(flip, images[:, :, ::-1], images)
    pixels = images.astype(jnp.float32) / 255
    if key is not None and any(recipe.jitter):
        pixels = _jittered(pixels, recipe.jitter, jax.random.fold_in(key, 3))
    pixels = (pixels - recipe.mean) / recipe.std
    if key is not None and recipe.cutout:
        pixels = _cut_out(pixels, recipe.cutout, jax.random.fold_in(key, 2))
    return pixels


def _jittered(pixels: jax.Array, jitter: tuple[float, ...], key: jax.Array) -> jax.Array:
    """Changes the colours of RGB images in [0, 1] at random; clips them to [0, 1] after each change."""
    if pixels.shape[-1] != 3:
        raise ValueError(f"jitter is of RGB images, expected 3 channels, got images of shape {pixels.shape[1:]}")
    order_key, *keys = jax.random.split(key, 5)
    changes, amounts = [], []
    for change, largest, neutral, amount_key in zip(CHANGES, jitter, (1, 1, 1, 0), keys, strict=True):
        if largest:
            low = max(0, 1 - largest) if neutral else -largest
            changes.append(change)
            amounts.append(jax.random.uniform(amount_key, (len(pixels), 1, 1, 1), minval=low, maxval=neutral + largest))
    order, stacked = jax.random.permutation(order_key, len(changes)), jnp.stack(amounts)

    def apply(i: int, changed: jax.Array) -> jax.Array:
        return jax.lax.switch(order[i], changes, changed, stacked[order[i]])

    return jax.lax.fori_loop(0, len(changes), apply, pixels)


def _brighter(pixels: jax.Array, factor: jax.Array) -> jax.Array:
    return jnp.clip(pixels * factor, 0, 1)


def _contrasted(pixels: jax.Array, factor: jax.Array) -> jax.Array:
    mean = _grey(pixels).mean((1, 2), keepdims=True)
    return jnp.clip(mean + (pixels - mean) * factor, 0, 1)


def _saturated(pixels: jax.Array, factor: jax.Array) -> jax.Array:
    grey = _grey(pixels)
    return jnp.clip(grey + (pixels - grey) * factor, 0, 1)


def _hue_shifted(pixels: jax.Array, turns: jax.Array) -> jax.Array:
    """Turns the hue of HSV; value and chroma stay, so that only the place of each channel on the circle matters."""
    red, green, blue = jnp.split(pixels, 3, -1)
    value = pixels.max(-1, keepdims=True)
    chroma = value - pixels.min(-1, keepdims=True)
    sixths = jnp.where(
        value == red, green - blue, jnp.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    ) / jnp.where(chroma, chroma, 1)
    place = (sixths + 6 * turns + jnp.array([5.0, 3.0, 1.0])) % 6
    return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)


def _grey(pixels: jax.Array) -> jax.Array:
    """Luma of ITU-R BT.601, [B, H, W, 1]."""
    return (pixels * jnp.array([0.299, 0.587, 0.114])).sum(-1, keepdims=True)


CHANGES = (_brighter, _contrasted, _saturated, _hue_shifted)
"""The changes of jitter: functions of RGB images [B, H, W, 3] in [0, 1] and of a factor or shift [B, 1, 1, 1]."""


def _cut_out(images: jax.Array, side: int, key: jax.Array) -> jax.Array:
    """Zeros a square around a random pixel of each image; it may cross the border (DeVries and Taylor, 2017)."""
    n, height, width, _ = images.shape
    centres = jax.random.randint(key, (2, n, 1), 0, jnp.array([height, width])[:, None, None])
    rows, columns = (
        (jnp.arange(size) >= centre - side // 2) & (jnp.arange(size) < centre - side // 2 + side)
        for size, centre in zip((height, width), centres, strict=True)
    )
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], 0, images)


def _crop(images: jax.Array, pad: int, key: jax.Array) -> jax.Array:
    """Pads images with black and cuts a window of the old size at a random place of each, as torchvision does."""
    n, *shape = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * pad + 1)
    cut = jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape))
    return cut(padded, corners)

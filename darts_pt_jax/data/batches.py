"""Batches on the device: which images, cropped, flipped and normalised inside the step.

Everything random is a function of the key that is passed in.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Dataset:
    """Labelled images on the device.

    Attributes:
      images: uint8 [N, H, W, C].
      labels: int32 [N].
      mean, std: float32 [C], of pixels scaled to [0, 1].
      pad: zero padding in pixels before the random crop; 0 crops nothing.
      flip: whether training batches are flipped at random.
      cutout: side in pixels of the square that is blanked in training batches, after normalisation; 0: none.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array
    pad: int = flax.struct.field(pytree_node=False)
    flip: bool = flax.struct.field(pytree_node=False)
    cutout: int = flax.struct.field(pytree_node=False, default=0)

    @property
    def size(self) -> int:
        """N, the number of images."""
        return self.images.shape[0]


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [C] of uint8 images [N, H, W, C] scaled to [0, 1], over all pixels."""
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[-1])])
    levels, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, 1e-3).astype(np.float32)


def epoch_indices(key: jax.Array, size: int, steps: int, batch_size: int) -> jax.Array:
    """int32 [steps, batch_size]: one pass over shuffled images; what does not fill a batch is dropped."""
    return jax.random.permutation(key, size)[: steps * batch_size].reshape(steps, batch_size)


def independent_indices(key: jax.Array, size: int, steps: int, batch_size: int) -> jax.Array:
    """int32 [steps, batch_size]: every batch a fresh random subset without replacement (Floyd's algorithm)."""
    start = size - batch_size
    last = start + jnp.arange(batch_size)
    draws = jax.random.randint(key, (steps, batch_size), 0, last + 1)

    def add(i, chosen):
        taken = (chosen == draws[:, i, None]).any(1)
        return chosen.at[:, i].set(jnp.where(taken, start + i, draws[:, i]))

    return jax.lax.fori_loop(0, batch_size, add, jnp.full((steps, batch_size), -1))


SAMPLING = {"independent": independent_indices, "epoch": epoch_indices}
"""How the batches of an epoch are drawn, by name."""


def batch(dataset: Dataset, indices: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """The images and labels at `indices` [B].

    Args:
      dataset: where from.
      indices: int [B].
      key: of the augmentation (random crop after zero padding, random horizontal flip, cutout); None does not augment.

    Returns:
      Normalised float32 images [B, H, W, C] and int32 labels [B].
    """
    images = dataset.images[indices]
    if key is not None:
        crop_key, flip_key = jax.random.split(key)
        if dataset.pad:
            images = _crop(images, dataset.pad, crop_key)
        if dataset.flip:
            flip = jax.random.bernoulli(flip_key, shape=(len(indices), 1, 1, 1))
            images = jnp.where(flip, images[:, :, ::-1], images)
    pixels = (images.astype(jnp.float32) / 255 - dataset.mean) / dataset.std
    if key is not None and dataset.cutout:
        pixels = _cut_out(pixels, dataset.cutout, jax.random.fold_in(key, 2))
    return pixels, dataset.labels[indices]


def _cut_out(images: jax.Array, side: int, key: jax.Array) -> jax.Array:
    """Zeros in a square around a random pixel of each image, which may hang over the border (DeVries and Taylor, 2017)."""
    n, height, width, _ = images.shape
    centres = jax.random.randint(key, (2, n, 1), 0, jnp.array([height, width])[:, None, None])
    rows, columns = (
        (jnp.arange(size) >= centre - side // 2) & (jnp.arange(size) < centre - side // 2 + side)
        for size, centre in zip((height, width), centres, strict=True)
    )
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], 0, images)


def _crop(images: jax.Array, pad: int, key: jax.Array) -> jax.Array:
    """Pads with black and cuts a window of the old size at a random place of each image, as torchvision does."""
    n, *shape = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * pad + 1)
    cut = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), shape))
    return cut(padded, corners)

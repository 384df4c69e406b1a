"""Padding, shifting and summing images [..., H, W, C], from which the fast forms are built."""

import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from darts_pt_jax.devices import shards
from darts_pt_jax.kernels.platforms import by_platform


def pad(x: jax.Array, border: int, value: float = 0.0) -> jax.Array:
    """[..., H, W, C] with `border` pixels of `value` on each side."""
    edges = [(0, 0, 0)] * (x.ndim - 3) + [(border, border, 0), (border, border, 0), (0, 0, 0)]
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), edges)


def strided_size(x: jax.Array, stride: int) -> tuple[int, int]:
    """Height and width of [..., H, W, C] after a window operation with padding: rounded up."""
    return -(-x.shape[-3] // stride), -(-x.shape[-2] // stride)


def shifts(padded: jax.Array, window: int, stride: int, dilation: int, size: tuple[int, int]) -> Iterator[jax.Array]:
    """The pixels [..., H', W', C] under each place of a window, row by row, for an output of `size` (H', W')."""
    rows, columns = (stride * (n - 1) + 1 for n in size)
    for i in range(0, window * dilation, dilation):
        for j in range(0, window * dilation, dilation):
            yield padded[..., i : i + rows : stride, j : j + columns : stride, :]


def spread(x: jax.Array, stride: int, size: tuple[int, int]) -> jax.Array:
    """[..., H', W', C] with its pixels `stride` apart in zeros of `size` (H, W): the transpose of striding."""
    if stride == 1:
        return x
    ends = [(0, n - (stride * (m - 1) + 1), stride - 1) for m, n in zip(x.shape[-3:-1], size, strict=True)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * (x.ndim - 3), *ends, (0, 0, 0)])


def sums(images: Sequence[jax.Array], by_channel: bool = True) -> jax.Array:
    """float32 sums [N, C] (or [N]) of N arrays [B, H, W, C], in one pass."""
    return by_platform(_image_by_image, _image_by_image, tuple(images), on_gpu=_stacked, by_channel=by_channel)


def _image_by_image(images, by_channel):
    """First over each image, then over the batch."""

    def reduced(arrays, axes):
        return jax.lax.reduce(arrays, (jnp.float32(0),) * len(arrays), lambda a, b: tuple(map(jnp.add, a, b)), axes)

    of_images = reduced(tuple(x.astype(jnp.float32) for x in images), (1, 2))
    if shards(images[0])[1] > 1:  # stacked, so that the devices exchange one sum and not N
        return jnp.stack(of_images, 1).sum((0,) if by_channel else (0, 2))
    return jnp.stack(reduced(of_images, (0,) if by_channel else (0, 1)))


def _stacked(images, by_channel):
    """The same as sums of one array, in two kernels: XLA:GPU fuses what makes the images into the first.

    It does so if the first kernel has a block for each of its processors: hence the parts of large images.
    """
    height, width, channels = images[0].shape[-3:]
    parts = math.gcd(height, 4) if height * width >= 256 else 1
    of_parts = jnp.stack(images, -2).astype(jnp.float32).reshape(-1, height * width // parts, len(images), channels)
    sums = of_parts.sum(1 if by_channel else (1, 3))
    return jax.lax.optimization_barrier(sums).sum(0)  # without the barrier, XLA makes one sum and then its own two

"""Normalisation of each channel by the statistics of a batch."""

import functools

import jax
import jax.numpy as jnp

from darts_pt_jax.devices import shards
from darts_pt_jax.kernels.images import sums
from darts_pt_jax.kernels.platforms import apart_on_cpu, by_platform


def normalise_plain(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel of [B, H, W, C].

    Returns:
      (x - mean) / sqrt(variance + epsilon), with the mean [C] and the biased variance [C].
    """
    mean = x.mean((0, 1, 2))
    variance = jnp.square(x - mean).mean((0, 1, 2))
    return (x - mean) * jax.lax.rsqrt(variance + epsilon), mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def normalise(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`normalise_plain` with one pass for its sums and one for its gradient's; mean and variance pass no gradient."""
    return _forward(x, epsilon)[0]


def _forward(x, epsilon):
    mean, variance = _moments(x)
    scale = jax.lax.rsqrt(variance + epsilon)
    return ((x - mean) * scale, mean, variance), (x, mean, scale)


def _backward(epsilon, residuals, g):
    return (_to_x(*residuals, g[0]),)


normalise.defvjp(_forward, _backward)


@apart_on_cpu()
def _moments(x):
    """Mean and biased variance [2, C] in one pass, about a reference near the mean, so that little cancels."""
    about = by_platform(_of_images, _of_images, x, on_gpu=_of_pixels)
    mean, square = sums([x - about, jnp.square(x - about)]) / (x.size / x.shape[-1])
    return jnp.stack([about + mean, jnp.maximum(square - jnp.square(mean), 0)])


def _of_images(x):
    """The mean [C] of the first image of each shard."""
    _, parts = shards(x)
    return x.reshape(parts, -1, *x.shape[1:])[:, 0].mean((0, 1, 2)) if parts > 1 else x[0].mean((0, 1))


def _of_pixels(x):
    """The mean [C] of the middle pixel of the first image of each shard: XLA:GPU reads it within the sums."""
    _, parts = shards(x)
    return x.reshape(parts, -1, *x.shape[1:])[:, 0, x.shape[1] // 2, x.shape[2] // 2].mean(0)


@apart_on_cpu()
def _to_x(x, mean, scale, g):
    y = (x - mean) * scale
    of_mean, of_scale = sums([g, g * y]) / (x.size / x.shape[-1])
    return scale * (g - of_mean - y * of_scale)

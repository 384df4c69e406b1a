"""The weighted sum of an edge's candidates."""

from collections.abc import Sequence

import jax

from darts_pt_jax.kernels.images import sums
from darts_pt_jax.kernels.platforms import apart_on_cpu


def mixture_plain(weights: jax.Array, images: Sequence[jax.Array]) -> jax.Array:
    """The sum [B, H, W, C] of K arrays of that shape, each times its entry of `weights` [K]."""
    return sum(weight.astype(x.dtype) * x for weight, x in zip(weights, images, strict=True))


@jax.custom_vjp
def mixture(weights: jax.Array, images: tuple[jax.Array, ...]) -> jax.Array:
    """`mixture_plain`, whose gradient in the weights is one pass over all arrays."""
    return mixture_plain(weights, images)


def _forward(weights, images):
    return mixture_plain(weights, images), (weights, images)


def _backward(residuals, g):
    weights, images = residuals
    to_images = tuple(weight.astype(g.dtype) * g for weight in weights)
    return _to_weights(images, g).astype(weights.dtype), to_images


mixture.defvjp(_forward, _backward)


@apart_on_cpu()
def _to_weights(images, g):
    return sums([x * g for x in images], by_channel=False)

"""3 x 3 max pooling: a maximum of shifted images."""

import functools

import jax
import jax.numpy as jnp

from darts_pt_jax.kernels.images import pad, shifts, spread, strided_size
from darts_pt_jax.kernels.platforms import apart_on_cpu


def max_pool_plain(x: jax.Array, stride: int = 1) -> jax.Array:
    """3 x 3 max pooling of [B, H, W, C]; padding is never the maximum."""
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """`max_pool_plain` as a maximum of shifted images; of equal pixels the first gets the gradient, as there."""
    return _maximum(x, stride=stride)


def _forward(x, stride):
    pooled = _maximum(x, stride=stride)
    return pooled, (x, pooled)


def _backward(stride, residuals, g):
    return (_maximum_to_x(*residuals, g, stride=stride),)


max_pool.defvjp(_forward, _backward)


@apart_on_cpu("stride")
def _maximum(x, stride):
    return functools.reduce(jnp.maximum, shifts(pad(x, 1, -jnp.inf), 3, stride, 1, strided_size(x, stride)))


@apart_on_cpu("stride")
def _maximum_to_x(x, pooled, g, stride):
    winner = jnp.full(g.shape, 9, jnp.int8)
    places = list(enumerate(shifts(pad(x, 1, -jnp.inf), 3, stride, 1, g.shape[-3:-1])))
    for place, shift in reversed(places):
        winner = jnp.where(shift == pooled, jnp.int8(place), winner)
    size = x.shape[-3:-1]
    around = [shifts(pad(spread(y, stride, size), 1), 3, 1, 1, size) for y in (winner, g)]
    # a pixel in place p of a window finds that window's output in place 8 - p of its own surroundings
    return sum(jnp.where(won == 8 - place, part, 0) for place, (won, part) in enumerate(zip(*around, strict=True)))

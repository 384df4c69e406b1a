"""Convolution, arranged so that several devices can share the work of a scoring."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from darts_pt_jax.devices import DATA, MASKS, shards


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Convolution of [B, H, W, C] with [k, k, C or 1, C'], odd k, zero padding that keeps the size at stride 1.

    In a scoring, vmap adds an axis of masks. XLA merges masks and images into one batch, mask by mask, which several
    devices cannot split. There the batch is merged device by device instead.
    """
    plain = functools.partial(_convolve_plain, stride=stride, dilation=dilation)
    masks, parts = shards(x)
    if masks is None or parts == 1:
        return plain(x, kernel)
    split = jax.custom_batching.custom_vmap(plain)

    @split.def_vmap
    def over_first_axis(count, batched, x, kernel):
        if all(batched) and kernel.shape[3] == 1:
            return _over_edges(x, kernel, stride, dilation), True
        if batched == [True, False]:
            return _over_masks(x, kernel, plain, masks, parts), True
        return jax.vmap(plain, [0 if batch else None for batch in batched])(x, kernel), True

    return split(x, kernel)


def _convolve_plain(x, kernel, stride, dilation):
    border = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((border, border), (border, border)), rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1] // kernel.shape[2],
    )  # fmt: skip


def _over_edges(x, kernel, stride, dilation):
    """Depthwise convolution of E edges, [E, B, H, W, C] with [E, k, k, 1, C], as one of E * C channels."""
    count = len(x)
    x, kernel = (jnp.moveaxis(array, 0, -2).reshape(*array.shape[1:-1], -1) for array in (x, kernel))
    y = convolve(x, kernel, stride, dilation)
    return jnp.moveaxis(y.reshape(*y.shape[:-1], count, -1), -2, 0)


def _over_masks(x, kernel, plain, masks, parts):
    """Convolution of M masks' images [M, B, H, W, C], as one batch in the order (mask shard, data shard, mask, image)."""
    by_device = x.reshape(masks, -1, parts, x.shape[1] // parts, *x.shape[2:]).swapaxes(1, 2)
    order, image = by_device.shape[:4], x.shape[2:]
    merged = jax.lax.with_sharding_constraint(by_device.reshape(-1, *image), PartitionSpec((MASKS, DATA)))
    y = plain(merged, kernel)
    return y.reshape(*order, *y.shape[1:]).swapaxes(1, 2).reshape(*x.shape[:2], *y.shape[1:])

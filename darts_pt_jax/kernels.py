"""Depthwise convolution, max pooling, normalisation and mixing in forms that XLA:CPU runs fast.

They have gradients of their own, and their plain forms beside them, named `*_plain`; the tests hold the two against each
other. Why not the plain forms: on XLA:CPU a grouped convolution takes some fifty times as long as the sum of shifted
images that it is, the gradient of a reduce-window ten times as long as its forward pass, and differentiating through
shifts multiplies the graph. No forward rule calls a function with a gradient of its own, so that the gradients can be
differentiated once more, forward: `jvp(grad(f))` (which at equal pixels under a maximum takes another of the possible
derivatives).
Measurements: docs/performance.md.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import PartitionSpec

from darts_pt_jax.devices import DATA, MASKS, shards


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _apart(*static: int) -> Callable:
    """Has XLA:CPU compile a function apart from what surrounds it; the arguments numbered `static` are constants.

    Otherwise what comes before is fused into each of its users and computed anew for each.
    """

    def decorate(function):
        compiled = jax.jit(function, static_argnums=static)

        @functools.wraps(function)
        def call(*args):
            return set_xla_metadata(compiled(*args), inlineable="false") if _on_cpu() else function(*args)

        return call

    return decorate


def _pad(x: jax.Array, pad: int, value: float = 0.0) -> jax.Array:
    edges = [(0, 0, 0)] * (x.ndim - 3) + [(pad, pad, 0), (pad, pad, 0), (0, 0, 0)]
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), edges)


def _size(x: jax.Array, stride: int) -> tuple[int, int]:
    return -(-x.shape[-3] // stride), -(-x.shape[-2] // stride)


def _shifts(padded: jax.Array, window: int, stride: int, dilation: int, size: tuple[int, int]) -> Iterator[jax.Array]:
    """What the windows of an output of `size` [H', W'] see in each of their places, row by row."""
    rows, columns = (stride * (n - 1) + 1 for n in size)
    for i in range(0, window * dilation, dilation):
        for j in range(0, window * dilation, dilation):
            yield padded[..., i : i + rows : stride, j : j + columns : stride, :]


def _spread(x: jax.Array, stride: int, size: tuple[int, int]) -> jax.Array:
    """[B, H', W', C] with its pixels `stride` apart in zeros of `size` [H, W]."""
    if stride == 1:
        return x
    ends = [(0, n - (stride * (m - 1) + 1), stride - 1) for m, n in zip(x.shape[-3:-1], size, strict=True)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * (x.ndim - 3), *ends, (0, 0, 0)])


def _sums(images: Sequence[jax.Array], of_channels: bool = True) -> jax.Array:
    """float32 sums [N, C] (or [N]) of N arrays [B, H, W, C] in one pass: of every image first, then over the batch."""

    def reduced(sums, axes):
        return jax.lax.reduce(sums, (jnp.float32(0),) * len(sums), lambda a, b: tuple(map(jnp.add, a, b)), axes)

    sums = reduced(tuple(x.astype(jnp.float32) for x in images), (1, 2))
    if shards(images[0])[1] > 1:  # one sum over devices, where N results would be N
        return jnp.stack(sums, 1).sum((0,) if of_channels else (0, 2))
    return jnp.stack(reduced(sums, (0,) if of_channels else (0, 1)))


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Convolution of [B, H, W, C] with [k, k, C or 1, C'], odd k, zero padding that keeps the size at stride 1.

    vmap makes one batch of masks and images, mask by mask, which several devices cannot split: where they score, it is
    arranged by what each of them has.
    """
    pad, (masks, parts) = dilation * (kernel.shape[0] // 2), shards(x)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((pad, pad), (pad, pad)), rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1] // kernel.shape[2],
        )  # fmt: skip

    if masks is None or parts == 1:
        return plain(x, kernel)
    split = jax.custom_batching.custom_vmap(plain)

    @split.def_vmap
    def over_masks(count, batched, x, kernel):
        if all(batched) and kernel.shape[3] == 1:  # edges, of a depthwise convolution: more channels
            joined = [jnp.moveaxis(of, 0, -2).reshape(*of.shape[1:-1], -1) for of in (x, kernel)]
            y = convolve(*joined, stride, dilation)
            return jnp.moveaxis(y.reshape(*y.shape[:-1], count, -1), -2, 0), True
        if batched != [True, False]:
            return jax.vmap(plain, [0 if of else None for of in batched])(x, kernel), True
        by_device = x.reshape(masks, -1, parts, x.shape[1] // parts, *x.shape[2:]).swapaxes(1, 2)
        order, image = by_device.shape[:4], x.shape[2:]
        merged = jax.lax.with_sharding_constraint(by_device.reshape(-1, *image), PartitionSpec((MASKS, DATA)))
        y = plain(merged, kernel)
        return y.reshape(*order, *y.shape[1:]).swapaxes(1, 2).reshape(*x.shape[:2], *y.shape[1:]), True

    return split(x, kernel)


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), whose derivative at 0 is 0. (The time that Flax's takes to trace adds up in a supernet.)"""
    return jax.lax.select(x <= 0, jnp.zeros_like(x), x)


def depthwise_plain(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Depthwise convolution of [B, H, W, C] with [k, k, C], odd k, zero padding that keeps the size at stride 1."""
    return convolve(x, kernel[:, :, None], stride, dilation)


@_apart(2, 3)
def _depthwise(x, kernel, stride, dilation):
    window = kernel.shape[0]
    shifts = _shifts(_pad(x, dilation * (window // 2)), window, stride, dilation, _size(x, stride))
    return sum(shift * tap for shift, tap in zip(shifts, kernel.reshape(-1, kernel.shape[-1]), strict=True))


@_apart(2, 3, 4)
def _depthwise_to_x(kernel, g, size, stride, dilation):
    return _depthwise(_spread(g, stride, size), kernel[::-1, ::-1], 1, dilation)


@_apart(2, 3, 4)
def _depthwise_to_kernel(x, g, window, stride, dilation):
    shifts = _shifts(_pad(x, dilation * (window // 2)), window, stride, dilation, g.shape[-3:-1])
    return _sums([shift * g for shift in shifts]).reshape(window, window, x.shape[-1]).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_shifted(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """`depthwise_plain` as a sum of shifted images; the gradient in the kernel is one pass over image and cotangent."""
    return _depthwise(x, kernel, stride, dilation)


def _depthwise_forward(x, kernel, stride, dilation):
    return _depthwise(x, kernel, stride, dilation), (x, kernel)


def _depthwise_backward(stride, dilation, residuals, g):
    x, kernel = residuals
    to_x = _depthwise_to_x(kernel, g, x.shape[-3:-1], stride, dilation)
    return to_x, _depthwise_to_kernel(x, g, kernel.shape[0], stride, dilation)


depthwise_shifted.defvjp(_depthwise_forward, _depthwise_backward)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """`depthwise_plain` in the form that suits the device: shifted on CPUs, XLA's grouped convolution elsewhere."""
    return (depthwise_shifted if _on_cpu() else depthwise_plain)(x, kernel, stride, dilation)


def max_pool_plain(x: jax.Array, stride: int = 1) -> jax.Array:
    """3 x 3 max pooling of [B, H, W, C]; padding is never the maximum."""
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), pads)


@_apart(1)
def _max_pool(x, stride):
    return functools.reduce(jnp.maximum, _shifts(_pad(x, 1, -jnp.inf), 3, stride, 1, _size(x, stride)))


@_apart(3)
def _max_pool_to_x(x, pooled, g, stride):
    winner = jnp.full(g.shape, 9, jnp.int8)
    places = list(enumerate(_shifts(_pad(x, 1, -jnp.inf), 3, stride, 1, g.shape[-3:-1])))
    for place, shift in reversed(places):
        winner = jnp.where(shift == pooled, jnp.int8(place), winner)
    size = x.shape[-3:-1]
    around = [_shifts(_pad(_spread(y, stride, size), 1), 3, 1, 1, size) for y in (winner, g)]
    # a pixel in place p of a window sees that window's output in place 8 - p around itself
    return sum(jnp.where(won == 8 - place, part, 0) for place, (won, part) in enumerate(zip(*around, strict=True)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """`max_pool_plain` as a maximum of shifted images; of equal pixels the first gets the gradient, as there."""
    return _max_pool(x, stride)


def _max_pool_forward(x, stride):
    pooled = _max_pool(x, stride)
    return pooled, (x, pooled)


max_pool.defvjp(_max_pool_forward, lambda stride, residuals, g: (_max_pool_to_x(*residuals, g, stride),))


def normalise_plain(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[B, H, W, C] less the mean of its channel, over the root of its biased variance + epsilon; mean, variance [C]."""
    mean = x.mean((0, 1, 2))
    variance = jnp.square(x - mean).mean((0, 1, 2))
    return (x - mean) * jax.lax.rsqrt(variance + epsilon), mean, variance


@_apart()
def _moments(x):
    """Mean and biased variance [C] in one pass: about the mean of a first image, so that what cancels is small."""
    _, parts = shards(x)  # of each of which the first
    about = x.reshape(parts, -1, *x.shape[1:])[:, 0].mean((0, 1, 2)) if parts > 1 else x[0].mean((0, 1))
    mean, square = _sums([x - about, jnp.square(x - about)]) / (x.size / x.shape[-1])
    return jnp.stack([about + mean, jnp.maximum(square - jnp.square(mean), 0)])


@_apart()
def _normalise_to_x(x, mean, scale, g):
    y = (x - mean) * scale
    of_mean, of_scale = _sums([g, g * y]) / (x.size / x.shape[-1])
    return scale * (g - of_mean - y * of_scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def normalise(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`normalise_plain` with one pass for its sums, and one for its gradient's; mean, variance pass no gradient on."""
    return _normalise_forward(x, epsilon)[0]


def _normalise_forward(x, epsilon):
    mean, variance = _moments(x)
    scale = jax.lax.rsqrt(variance + epsilon)
    return ((x - mean) * scale, mean, variance), (x, mean, scale)


normalise.defvjp(_normalise_forward, lambda epsilon, residuals, g: (_normalise_to_x(*residuals, g[0]),))


def mixture_plain(weights: jax.Array, images: Sequence[jax.Array]) -> jax.Array:
    """The sum of K arrays [B, H, W, C], each times its entry of `weights` [K]."""
    return sum(weight.astype(x.dtype) * x for weight, x in zip(weights, images, strict=True))


@_apart()
def _mixture_to_weights(images, g):
    return _sums([x * g for x in images], of_channels=False)


@jax.custom_vjp
def mixture(weights: jax.Array, images: tuple[jax.Array, ...]) -> jax.Array:
    """`mixture_plain`, whose gradient in the weights is one pass over all arrays."""
    return mixture_plain(weights, images)


def _mixture_backward(residuals, g):
    weights, images = residuals
    to_images = tuple(weight.astype(g.dtype) * g for weight in weights)
    return _mixture_to_weights(images, g).astype(weights.dtype), to_images


mixture.defvjp(lambda weights, images: (mixture_plain(weights, images), (weights, images)), _mixture_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def share(x: jax.Array, count: int) -> jax.Array:
    """`count` copies of an array along a new first axis. (XLA:CPU sums over a first axis slowly, adds fast.)"""
    return jnp.broadcast_to(x, (count, *x.shape))


def _share_backward(count, _, g):
    return (functools.reduce(jnp.add, [part[0] for part in jax.lax.split(g, (1,) * count)]),)


share.defvjp(lambda x, count: (jnp.broadcast_to(x, (count, *x.shape)), None), _share_backward)


@_apart()
def _as_it_is(x):
    return x


@jax.custom_vjp
def meeting_point(x: jax.Array) -> jax.Array:
    """The array itself; the cotangents that meet here are added up once, not by each of those that go on from it."""
    return x


meeting_point.defvjp(lambda x: (x, None), lambda _, g: (_as_it_is(g),))

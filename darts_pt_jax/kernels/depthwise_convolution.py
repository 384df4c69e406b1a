"""Depthwise convolution: a sum of shifted images on CPUs and GPUs, XLA's grouped convolution elsewhere."""

import functools

import jax

from darts_pt_jax.kernels.convolution import convolve
from darts_pt_jax.kernels.images import pad, shifts, spread, strided_size, sums
from darts_pt_jax.kernels.platforms import apart_on_cpu, by_platform


def depthwise_plain(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Depthwise convolution of [B, H, W, C] with [k, k, C], odd k, zero padding that keeps the size at stride 1."""
    return convolve(x, kernel[:, :, None], stride, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """`depthwise_plain` in the form that suits the platform.

    On CPUs and GPUs it is a sum of shifted images, and the gradient in the kernel is one pass over image and cotangent.
    """
    return _forward(x, kernel, stride, dilation)[0]


def _forward(x, kernel, stride, dilation):
    constants = {"stride": stride, "dilation": dilation}
    return by_platform(_shifted, depthwise_plain, x, kernel, on_gpu=_shifted, **constants), (x, kernel)


def _backward(stride, dilation, residuals, g):
    constants = {"stride": stride, "dilation": dilation}
    return by_platform(_shifted_gradient, _plain_gradient, *residuals, g, on_gpu=_gradient_on_gpu, **constants)


depthwise.defvjp(_forward, _backward)


def _plain_gradient(x, kernel, g, stride, dilation):
    _, pull = jax.vjp(functools.partial(depthwise_plain, stride=stride, dilation=dilation), x, kernel)
    return pull(g)


def _shifted_gradient(x, kernel, g, stride, dilation):
    to_x = _shifted_to_x(kernel, g, size=x.shape[-3:-1], stride=stride, dilation=dilation)
    return to_x, _shifted_to_kernel(x, g, window=kernel.shape[0], stride=stride, dilation=dilation)


def _gradient_on_gpu(x, kernel, g, stride, dilation):
    to_x, to_kernel = _shifted_gradient(x, kernel, g, stride=stride, dilation=dilation)
    large = kernel.shape[0] > 3  # XLA:GPU would fuse the sum over edges too: a kernel that takes LLVM 10 s
    return jax.lax.optimization_barrier(to_x) if large else to_x, to_kernel


@apart_on_cpu("stride", "dilation")
def _shifted(x, kernel, stride, dilation):
    window = kernel.shape[0]
    places = shifts(pad(x, dilation * (window // 2)), window, stride, dilation, strided_size(x, stride))
    return sum(place * tap for place, tap in zip(places, kernel.reshape(-1, kernel.shape[-1]), strict=True))


@apart_on_cpu("size", "stride", "dilation")
def _shifted_to_x(kernel, g, size, stride, dilation):
    return _shifted(spread(g, stride, size), kernel[::-1, ::-1], stride=1, dilation=dilation)


@apart_on_cpu("window", "stride", "dilation")
def _shifted_to_kernel(x, g, window, stride, dilation):
    places = shifts(pad(x, dilation * (window // 2)), window, stride, dilation, g.shape[-3:-1])
    return sums([place * g for place in places]).reshape(window, window, x.shape[-1]).astype(x.dtype)

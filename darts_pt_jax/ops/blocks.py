"""The fixed blocks that operations, stems and heads are built from, initialised as in PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import kernels

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for convolutions and linear layers: U(-b, b) with b = 1/sqrt(fan_in)."""


class Norm(nn.Module):
    """BatchNorm as PyTorch computes it: epsilon 1e-5, running statistics with momentum 0.1.

    The running variance is the biased one, as in Flax. Without `affine` it has no parameters. Statistics are float32 for
    images of every type.
    """

    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        shape, epsilon = x.shape[-1:], 1e-5
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_variance = self.variable("batch_stats", "var", jnp.ones, shape)
        wide = x.astype(jnp.float32)
        if batch_statistics:
            y, mean, variance = kernels.normalise(wide, epsilon)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_variance.value = 0.9 * running_variance.value + 0.1 * variance
        else:
            y = (wide - running_mean.value) * jax.lax.rsqrt(running_variance.value + epsilon)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, shape)
            y = y * scale + self.param("bias", nn.initializers.zeros, shape)
        return y.astype(x.dtype)


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution of [B, H, W, C] with [k, k, C, D], odd k, symmetric zero padding that keeps the size at stride 1."""
    if kernel.shape[:2] == (1, 1):  # a product of matrices stays one when kernels are stacked
        return jnp.einsum("bhwc,cd->bhwd", x[:, ::stride, ::stride], kernel[0, 0].astype(x.dtype))
    return kernels.convolve(x, kernel.astype(x.dtype), stride)


class Conv(nn.Module):
    """k x k convolution without bias."""

    channels: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
        return convolve(x, self.param("kernel", torch_uniform, shape), self.stride)

    def multiply_adds(self, x: jax.Array, y: jax.Array) -> int:
        return y.size * x.shape[-1] * self.kernel**2


class Linear(nn.Module):
    """Linear layer with bias, in float32, initialised as in PyTorch."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bound = x.shape[-1] ** -0.5
        kernel = self.param("kernel", torch_uniform, (x.shape[-1], self.features))
        bias = self.param(
            "bias", lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound), (self.features,)
        )
        return x.astype(jnp.float32) @ kernel + bias

    def multiply_adds(self, x: jax.Array, y: jax.Array) -> int:
        return y.size * (x.shape[-1] + 1)


class SeparableConv(nn.Module):
    """Depthwise k x k convolution, then pointwise convolution."""

    channels: int
    kernel: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = x.shape[-1]
        depthwise = self.param("depthwise", torch_uniform, (self.kernel, self.kernel, 1, c))
        pointwise = self.param("pointwise", torch_uniform, (1, 1, c, self.channels))
        x = kernels.depthwise(x, depthwise[:, :, 0].astype(x.dtype), self.stride, self.dilation)
        return convolve(x, pointwise)

    def multiply_adds(self, x: jax.Array, y: jax.Array) -> int:
        depthwise = y.size // self.channels * x.shape[-1] * self.kernel**2
        return depthwise + y.size * x.shape[-1]


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """3 x 3 average pooling of [B, H, W, C] over the pixels inside the image: padding does not count."""
    total = kernels.depthwise(x, jnp.ones((3, 3, x.shape[-1]), x.dtype), stride)
    rows, columns = (np.convolve(np.ones(n), np.ones(3))[1:-1:stride] for n in x.shape[1:3])
    return total / np.asarray(np.outer(rows, columns)[:, :, None], x.dtype)


class ReLUConvNorm(nn.Module):
    """ReLU, k x k convolution, BatchNorm."""

    channels: int
    kernel: int = 1
    stride: int = 1
    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        x = Conv(self.channels, self.kernel, self.stride, name="conv")(kernels.relu(x))
        return Norm(self.affine, name="norm")(x, batch_statistics)


class FactorizedReduce(nn.Module):
    """ReLU, strided 1x1 convolutions of the even and of the odd pixels, concatenated, BatchNorm.

    The odd pixels are padded with one zero at the end of each row and column, so that both halves have the same size.
    """

    channels: int
    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        x = kernels.relu(x)
        odd = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
        half = self.channels // 2
        even = Conv(half, 1, name="even")(x[:, ::2, ::2])
        odd = Conv(self.channels - half, 1, name="odd")(odd[:, ::2, ::2])
        return Norm(self.affine, name="norm")(jnp.concatenate([even, odd], -1), batch_statistics)


class ResidualBlock(nn.Module):
    """The down-sampling block between the stages of NAS-Bench-201: doubles the channels, halves height and width."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        y = ReLUConvNorm(self.channels, 3, 2, affine=True, name="conv_a")(x, batch_statistics)
        y = ReLUConvNorm(self.channels, 3, 1, affine=True, name="conv_b")(y, batch_statistics)
        padding = ((0, x.shape[1] % 2), (0, x.shape[2] % 2))
        shortcut = nn.avg_pool(x, (2, 2), (2, 2), padding, count_include_pad=False)
        return y + Conv(self.channels, 1, name="shortcut")(shortcut)

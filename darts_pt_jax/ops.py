"""Candidate operations and the fixed blocks around them (DARTS, section 3.1; NAS-Bench-201, section 2.1).

Every operation is a Flax module over images [B, H, W, C] with the attributes of `Operation`, called as
`operation(x, batch_statistics)`. `OPERATIONS` names them: a new operation is a new row.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for convolutions and linear layers: U(-b, b) with b = 1/sqrt(fan_in)."""


class Norm(nn.Module):
    """BatchNorm as PyTorch computes it: two-pass variance, epsilon 1e-5, running statistics with momentum 0.1.

    The running variance is the biased one, as in Flax. Without `affine` it has no parameters.
    """

    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        return nn.BatchNorm(
            use_running_average=not batch_statistics,
            momentum=0.9,
            epsilon=1e-5,
            use_bias=self.affine,
            use_scale=self.affine,
            use_fast_variance=False,
            name="norm",
        )(x)


class Operation(nn.Module):
    """What every operation is built from.

    Attributes:
      channels: channels of input and output.
      stride: 1, or 2 to halve height and width (rounding up).
      affine: whether BatchNorm has scale and bias (the retrained network has them, the supernet has not).
      pool_norm: whether BatchNorm follows pooling.
    """

    channels: int
    stride: int = 1
    affine: bool = False
    pool_norm: bool = True


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Convolution of [B, H, W, C] with [k, k, C, D], odd k, symmetric zero padding that keeps the size at stride 1."""
    pad = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((pad, pad), (pad, pad)), rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


class Conv(nn.Module):
    """k x k convolution without bias."""

    channels: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
        return convolve(x, self.param("kernel", torch_uniform, shape), self.stride)


class SeparableConv(nn.Module):
    """Depthwise k x k, then pointwise convolution, computed as the one dense convolution that they compose to.

    XLA:CPU runs depthwise convolutions ten to a hundred times slower than dense ones; the parameters stay separate.
    """

    channels: int
    kernel: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = x.shape[-1]
        depthwise = self.param("depthwise", torch_uniform, (self.kernel, self.kernel, 1, c))
        pointwise = self.param("pointwise", torch_uniform, (1, 1, c, self.channels))
        return convolve(x, jnp.swapaxes(depthwise, 2, 3) * pointwise, self.stride, self.dilation)


def average_pool(x: jax.Array, window: int, stride: int, padding: tuple[tuple[int, int], tuple[int, int]]) -> jax.Array:
    """Average pooling of [B, H, W, C] over the pixels inside the image: padding is not counted."""
    total = nn.pooling.pool(x, 0.0, jax.lax.add, (window, window), (stride, stride), padding)
    inside = [np.pad(np.ones(n), pad) for n, pad in zip(x.shape[1:3], padding, strict=True)]
    rows, columns = (np.convolve(ones, np.ones(window), "valid")[::stride] for ones in inside)
    return total / np.asarray(np.outer(rows, columns)[:, :, None], x.dtype)


class ReLUConvNorm(nn.Module):
    """ReLU, k x k convolution, BatchNorm."""

    channels: int
    kernel: int = 1
    stride: int = 1
    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        x = Conv(self.channels, self.kernel, self.stride, name="conv")(nn.relu(x))
        return Norm(self.affine, name="norm")(x, batch_statistics)


class FactorizedReduce(nn.Module):
    """ReLU, two strided 1x1 convolutions on even and on odd pixels, concatenated, BatchNorm.

    An odd height or width is padded by one zero at the end of the odd pixels, so that both halves have the same size.
    """

    channels: int
    affine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        x = nn.relu(x)
        odd = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
        half = self.channels // 2
        even = Conv(half, 1, name="even")(x[:, ::2, ::2])
        odd = Conv(self.channels - half, 1, name="odd")(odd[:, ::2, ::2])
        return Norm(self.affine, name="norm")(jnp.concatenate([even, odd], -1), batch_statistics)


class ResidualBlock(nn.Module):
    """The down-sampling block between the stages of NAS-Bench-201: doubles channels, halves the size."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        y = ReLUConvNorm(self.channels, 3, 2, affine=True, name="conv_a")(x, batch_statistics)
        y = ReLUConvNorm(self.channels, 3, 1, affine=True, name="conv_b")(y, batch_statistics)
        shortcut = average_pool(x, 2, 2, ((0, x.shape[1] % 2), (0, x.shape[2] % 2)))
        return y + Conv(self.channels, 1, name="shortcut")(shortcut)


class Zero(Operation):
    """none: zeros of the output's shape."""

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        return jnp.zeros_like(x[:, :: self.stride, :: self.stride])


class Noise(Operation):
    """noise: fresh N(0, 1) that does not depend on the input, in training and in evaluation (S4)."""

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        out = x[:, :: self.stride, :: self.stride]
        return jax.random.normal(self.make_rng("noise"), out.shape, out.dtype)


class Skip(Operation):
    """skip_connect: the identity; at stride 2 a `FactorizedReduce`."""

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        if self.stride == 1:
            return x
        return FactorizedReduce(self.channels, self.affine, name="reduce")(x, batch_statistics)


class Pool(Operation):
    """3 x 3 max or average pooling (padding is never the maximum nor counted), then BatchNorm if `pool_norm`."""

    average: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        padding = ((1, 1), (1, 1))
        if self.average:
            x = average_pool(x, 3, self.stride, padding)
        else:
            x = nn.max_pool(x, (3, 3), (self.stride, self.stride), padding)
        return Norm(self.affine, name="norm")(x, batch_statistics) if self.pool_norm else x


class SepConv(Operation):
    """sep_conv: twice ReLU, separable convolution, BatchNorm; the stride stands in the first."""

    kernel: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        for part, stride in (("a", self.stride), ("b", 1)):
            x = SeparableConv(self.channels, self.kernel, stride, name=f"conv_{part}")(nn.relu(x))
            x = Norm(self.affine, name=f"norm_{part}")(x, batch_statistics)
        return x


class DilConv(Operation):
    """dil_conv: ReLU, separable convolution of dilation 2, BatchNorm."""

    kernel: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        x = SeparableConv(self.channels, self.kernel, self.stride, dilation=2, name="conv")(nn.relu(x))
        return Norm(self.affine, name="norm")(x, batch_statistics)


class NorConv(Operation):
    """nor_conv: ReLU, dense convolution, BatchNorm (NAS-Bench-201)."""

    kernel: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        block = ReLUConvNorm(self.channels, self.kernel, self.stride, self.affine, name="block")
        return block(x, batch_statistics)


OPERATIONS: dict[str, Callable[..., nn.Module]] = {
    "none": Zero,
    "noise": Noise,
    "skip_connect": Skip,
    "max_pool_3x3": Pool,
    "avg_pool_3x3": functools.partial(Pool, average=True),
    "sep_conv_3x3": functools.partial(SepConv, kernel=3),
    "sep_conv_5x5": functools.partial(SepConv, kernel=5),
    "dil_conv_3x3": functools.partial(DilConv, kernel=3),
    "dil_conv_5x5": functools.partial(DilConv, kernel=5),
    "nor_conv_1x1": functools.partial(NorConv, kernel=1),
    "nor_conv_3x3": functools.partial(NorConv, kernel=3),
}
"""Operations by name; a value makes the module from the attributes of `Operation`."""


def has_parameters(name: str) -> bool:
    """Whether an operation has parameters at stride 1 and without affine BatchNorm."""
    key = jax.random.key(0)
    rngs, x = {"params": key, "noise": key}, jnp.zeros((1, 4, 4, 2))
    return "params" in jax.eval_shape(lambda: OPERATIONS[name](2).init(rngs, x, True))

"""Candidate operations and the fixed blocks around them (DARTS, section 3.1; NAS-Bench-201, section 2.1).

An operation is a Flax module with the attributes of `Operation`, called as `operation(x, batch_statistics)` on images
[B, H, W, C]. `OPERATIONS` names them: a new operation is a new row. The functions below the table say what an operation
is, and find it out from the registered value itself.
"""

import functools
from collections.abc import Hashable
from typing import Any, ClassVar, Protocol

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import counting, kernels

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


class Operation(nn.Module):
    """Base class of the operations.

    Attributes:
      channels: C, of input and output.
      stride: 1, or 2 to halve height and width (rounding up).
      affine: whether BatchNorm has scale and bias; the retrained network's has, the supernet's has not.
      pool_norm: whether BatchNorm follows pooling.

    Attributes of the class:
      stacks: whether vmap over the edges that read the same images is faster than one edge after the other.
      convolution: whether it counts as a convolution (`is_convolution`); None: it does if it has multiply-adds.
    """

    channels: int
    stride: int = 1
    affine: bool = False
    pool_norm: bool = True

    stacks: ClassVar[bool] = False
    convolution: ClassVar[bool | None] = None


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


class Zero(Operation):
    """none: zeros of the output's shape."""

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        return jnp.zeros_like(x[:, :: self.stride, :: self.stride])


class Noise(Operation):
    """noise: N(0, 1) drawn anew in every pass, in training and in evaluation, whatever the input (S4)."""

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
    """3 x 3 max or average pooling over the pixels inside the image, then BatchNorm if `pool_norm`."""

    average: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        x = average_pool(x, self.stride) if self.average else kernels.max_pool(x, self.stride)
        return Norm(self.affine, name="norm")(x, batch_statistics) if self.pool_norm else x

    def multiply_adds(self, x: jax.Array, y: jax.Array) -> int:
        return 0


class SepConv(Operation):
    """sep_conv: ReLU, separable convolution, BatchNorm, twice; the first convolution has the stride."""

    kernel: int = 3
    stacks: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        for part, stride in (("a", self.stride), ("b", 1)):
            x = SeparableConv(self.channels, self.kernel, stride, name=f"conv_{part}")(kernels.relu(x))
            x = Norm(self.affine, name=f"norm_{part}")(x, batch_statistics)
        return x


class DilConv(Operation):
    """dil_conv: ReLU, separable convolution of dilation 2, BatchNorm."""

    kernel: int = 3
    stacks: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        x = SeparableConv(self.channels, self.kernel, self.stride, dilation=2, name="conv")(kernels.relu(x))
        return Norm(self.affine, name="norm")(x, batch_statistics)


class NorConv(Operation):
    """nor_conv: ReLU, dense convolution, BatchNorm (NAS-Bench-201)."""

    kernel: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, batch_statistics: bool) -> jax.Array:
        block = ReLUConvNorm(self.channels, self.kernel, self.stride, self.affine, name="block")
        return block(x, batch_statistics)


class MakeOperation(Hashable, Protocol):
    """Makes an operation's module: a subclass of `Operation`, or a `functools.partial` of one."""

    def __call__(
        self,
        channels: int,
        stride: int = 1,
        affine: bool = False,
        pool_norm: bool = True,
        *,
        parent: Any = ...,
        name: str | None = ...,
    ) -> nn.Module:
        """See `Operation`; `parent` and `name` are Flax's."""
        ...


OPERATIONS: dict[str, MakeOperation] = {
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
"""Operations by name."""


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _init(key: jax.Array, make: MakeOperation, channels: int, stride: int, pool_norm: bool) -> dict:
    operation = make(channels, stride, pool_norm=pool_norm)
    variables = operation.init({"params": key, "noise": key}, jnp.zeros((1, 4, 4, channels)), True)
    return {"params": {}, "batch_stats": {}, **variables}


def init(key: jax.Array, name: str, channels: int, stride: int = 1, pool_norm: bool = True) -> dict:
    """Variables of an operation of the supernet, whose BatchNorm is not affine: "params" and "batch_stats"."""
    return _init(key, OPERATIONS[name], channels, stride, pool_norm)


@functools.cache
def _shapes(make: MakeOperation, stride: int, pool_norm: bool = True) -> dict:
    """`init`'s shapes. What is cached is cached by the registered value: a name may be registered anew."""
    return jax.eval_shape(lambda: _init(jax.random.key(0), make, 2, stride, pool_norm))


def has_parameters(name: str, stride: int = 1) -> bool:
    """Whether an operation has parameters when its BatchNorm is not affine."""
    return bool(_shapes(OPERATIONS[name], stride)["params"])


def has_statistics(name: str, stride: int, pool_norm: bool) -> bool:
    """Whether an operation has running statistics."""
    return bool(_shapes(OPERATIONS[name], stride, pool_norm)["batch_stats"])


def draws(name: str) -> bool:
    """Whether an operation draws random numbers."""
    return _draws(OPERATIONS[name])


def stacks(name: str) -> bool:
    """Whether an operation is computed by vmap over the edges that read the same state: `Operation.stacks`."""
    return getattr(OPERATIONS[name](2), "stacks", False) and not draws(name)


def differs_by_edge(name: str, stride: int = 1) -> bool:
    """Whether an operation differs between edges that read the same state: it has parameters, or draws."""
    return has_parameters(name, stride) or draws(name)


def is_convolution(name: str) -> bool:
    """Whether an operation is a convolution at stride 1: `Operation.convolution`, or else whether it has multiply-adds."""
    return _is_convolution(OPERATIONS[name])


@functools.cache
def _draws(make: MakeOperation) -> bool:
    apply = functools.partial(make(2).apply, batch_statistics=True, mutable=["batch_stats"])
    try:
        jax.eval_shape(apply, _shapes(make, 1), jnp.zeros((1, 4, 4, 2)))
    except flax.errors.InvalidRngError:
        return True
    return False


@functools.cache
def _is_convolution(make: MakeOperation) -> bool:
    operation, rngs = make(2), dict.fromkeys(("params", "noise"), jax.random.key(0))
    said = getattr(operation, "convolution", None)
    if said is not None:
        return said
    program = functools.partial(operation.init_with_output, rngs, batch_statistics=True)
    return counting.multiply_adds(program, (1, 4, 4, 2))[0] > 0

"""The candidate operations (DARTS, section 3.1; NAS-Bench-201, section 2.1; RobustDARTS for `Noise`).

An operation is a Flax module with the attributes of `Operation`, called as `operation(x, batch_statistics)` on images
[B, H, W, C].
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from darts_pt_jax import kernels
from darts_pt_jax.ops.blocks import FactorizedReduce, Norm, ReLUConvNorm, SeparableConv, average_pool


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

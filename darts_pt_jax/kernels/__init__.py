"""The primitives of a supernet in forms that are fast on the platform a program is compiled for.

One file holds each primitive, with its plain form (`*_plain`) beside the fast one; the tests compare the two. The fast
forms have their own gradients. XLA:CPU needs them: there, a grouped convolution takes some fifty times as long as the
equal sum of shifted images, the gradient of a reduce-window takes ten times as long as its forward pass, and automatic
differentiation of shifts multiplies the graph. Measurements: docs/performance.md. XLA:GPU fuses shifted images and their
sums into few kernels, where each grouped convolution needs kernels around it: docs/accelerator_programs.md.

No forward or backward rule calls a function that has its own gradient, so gradients can be differentiated once more in
forward mode: `jvp(grad(f))`. Where a maximum has several equal pixels, that picks one of the possible derivatives.
"""

from darts_pt_jax.kernels.activation import relu
from darts_pt_jax.kernels.convolution import convolve
from darts_pt_jax.kernels.depthwise_convolution import depthwise, depthwise_plain
from darts_pt_jax.kernels.mixing import mixture, mixture_plain
from darts_pt_jax.kernels.normalisation import normalise, normalise_plain
from darts_pt_jax.kernels.pooling import max_pool, max_pool_plain
from darts_pt_jax.kernels.sharing import meeting_point, share
from darts_pt_jax.kernels.stacking import stacked, unstacked

__all__ = [
    "convolve",
    "depthwise",
    "depthwise_plain",
    "max_pool",
    "max_pool_plain",
    "meeting_point",
    "mixture",
    "mixture_plain",
    "normalise",
    "normalise_plain",
    "relu",
    "share",
    "stacked",
    "unstacked",
]

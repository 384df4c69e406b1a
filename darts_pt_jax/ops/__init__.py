"""The table of candidate operations, and what each of them is.

A new operation is a new row of `OPERATIONS`: a subclass of `Operation`. The functions below the table look its name up
in every call, so that a name can be registered anew.
"""

import functools
from collections.abc import Callable

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from darts_pt_jax import counting
from darts_pt_jax.naming import guess
from darts_pt_jax.ops.blocks import (
    Conv,
    FactorizedReduce,
    Linear,
    Norm,
    ReLUConvNorm,
    ResidualBlock,
    SeparableConv,
    average_pool,
    convolve,
    torch_uniform,
)
from darts_pt_jax.ops.operations import DilConv, Noise, NorConv, Operation, Pool, SepConv, Skip, Zero
from darts_pt_jax.spaces import SearchSpace

__all__ = [
    "OPERATIONS", "Conv", "DilConv", "FactorizedReduce", "Linear", "MakeOperation", "Noise", "NorConv", "Norm", "Operation",
    "Pool", "ReLUConvNorm", "ResidualBlock", "SepConv", "SeparableConv", "Skip", "Zero", "average_pool", "check_space",
    "convolve", "differs_by_edge", "draws", "has_parameters", "has_statistics", "init", "is_convolution", "multiply_adds", "stacks",
    "torch_uniform",
]  # fmt: skip


MakeOperation = Callable[..., nn.Module]
"""Makes an operation's module: a subclass of `Operation`, or a `functools.partial` of one."""


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


def check_space(space: SearchSpace):
    """Refuses a space with a candidate that has no row in `OPERATIONS`.

    Raises:
      ValueError: it has one; the message names it.
    """
    names = {name for cell in space.cells.values() for edge in cell.edges for _, name in edge.operations}
    for name in sorted(names - OPERATIONS.keys()):
        near = guess(name, OPERATIONS) or f" of ops.OPERATIONS, {', '.join(OPERATIONS)}"
        raise ValueError(f"space {space.name} has the candidate {name!r}, which is no operation{near}")


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
    """The shapes of `init`, cached by the registered value, since a name may be registered anew."""
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


def multiply_adds(name: str, stride: int = 1) -> int:
    """Multiply-adds of an operation of the supernet on an image of 8x8 pixels and 16 channels."""
    return _multiply_adds(OPERATIONS[name], stride)


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
    said = getattr(make(2), "convolution", None)
    return _multiply_adds(make, 1) > 0 if said is None else said


@functools.cache
def _multiply_adds(make: MakeOperation, stride: int) -> int:
    rngs = dict.fromkeys(("params", "noise"), jax.random.key(0))
    program = functools.partial(make(16, stride).init_with_output, rngs, batch_statistics=True)
    return counting.multiply_adds(program, (1, 8, 8, 16))[0]

"""Multiply-adds of a program, counted from its trace as NAS-Bench-201 counts "FLOPs"."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax.extend.core import Jaxpr, JaxprEqn, Var, jaxprs_in_params

_COUNTED = "counted by its module"


def multiply_adds(program: Callable[[jax.Array], Any], image_shape: tuple[int, ...]) -> tuple[int, Any]:
    """Multiply-adds of the products of matrices and the convolutions that depend on a program's input.

    A Flax module with a method `multiply_adds(x, y)` gives its own number for a call on `x` that returns `y`; the rest
    is counted from the traced program: every step of a scan, one step of a loop of unknown length, the largest branch.

    Args:
      program: a function of images [B, H, W, C]; it may make its own parameters, which is not counted.
      image_shape: the shape of its input.

    Returns:
      The number, and the shapes of the program's result.
    """
    given, inside = 0, False

    def ask(call, args, kwargs, context):
        nonlocal given, inside
        module = context.module
        if inside or context.method_name != "__call__" or not hasattr(module, "multiply_adds"):
            return call(*args, **kwargs)
        inside = True
        try:
            with jax.named_scope(_COUNTED):
                y = call(*args, **kwargs)
        finally:
            inside = False
        given += module.multiply_adds(args[0], y)
        return y

    with nn.intercept_methods(ask):
        traced, result = jax.make_jaxpr(program, return_shape=True)(jax.ShapeDtypeStruct(image_shape, "float32"))
    return given + _of_program(traced.jaxpr), result


def _of_program(program: Jaxpr) -> int:
    """The products that depend on the program's arguments, less those that a module has counted."""
    total, reached = 0, set(program.invars)
    for equation in program.eqns:
        if not reached.isdisjoint(v for v in equation.invars if isinstance(v, Var)):
            reached.update(equation.outvars)
            if _COUNTED not in str(equation.source_info.name_stack):
                total += _of_equation(equation)
    return total


def _of_equation(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    operands: list[Any] = [v.aval for v in equation.invars]
    results: list[Any] = [v.aval for v in equation.outvars]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return results[0].size * math.prod(operands[0].shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, features = operands[1], params["dimension_numbers"].rhs_spec[0]
        return results[0].size * (kernel.size // kernel.shape[features]) // math.prod(params["lhs_dilation"])
    inner = [_of_program(program) for program in jaxprs_in_params(params)]
    if name == "cond":
        return max(inner)
    return params["length"] * sum(inner) if name == "scan" else sum(inner)

"""The gradient of an alpha step, under the present weights or after one step of the weights (DARTS, section 2.3).

Each row of `ALPHA_GRADIENTS` makes an `AlphaGradient` from `gradients`, where `gradients("params", "alphas")` is the
`metrics.Gradient` in weights and alphas, and from `program`, which compiles a part of the computation separately.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import optax

from darts_pt_jax.bilevel import Batch, Draw, SearchState
from darts_pt_jax.metrics import Gradient, Metrics


class AlphaGradient(Protocol):
    """The gradient of an alpha step."""

    def __call__(
        self, state: SearchState, train: Batch, valid: Batch, learning_rate: Any, draw: Draw | None = None
    ) -> tuple[dict, Metrics, dict]:
        """Returns gradients with the entry "alphas", metrics, and running statistics.

        Args:
          state: the search state.
          train, valid: a batch of each half.
          learning_rate: learning rate of the weights.
          draw: inputs of the sampler's draw; None: use its mean.
        """


Gradients = Callable[..., Gradient]
"""`gradients(*names)` is the gradient in "params", "alphas" or both."""


def first_order(gradients: Gradients, program=lambda f: f, **_) -> AlphaGradient:
    """First order: the gradient of the validation loss under the present weights (DARTS with xi = 0)."""
    in_alphas = gradients("alphas")

    def alpha_gradient(state, train, valid, learning_rate, draw=None):
        return in_alphas(state, valid, None, draw)

    return alpha_gradient


def exact(gradients: Gradients, program=lambda f: f, **optimizer) -> AlphaGradient:
    """Second order with the exact Hessian product."""
    return _second_order(gradients, _exact_product(gradients, program), program, **optimizer)


def finite_difference(gradients: Gradients, program=lambda f: f, **optimizer) -> AlphaGradient:
    """Second order with the Hessian product by central differences, as in the DARTS code."""
    return _second_order(gradients, _finite_product(gradients, program), program, **optimizer)


def _second_order(
    gradients: Gradients, product: Callable, program: Callable, momentum: float = 0.9, weight_decay: float = 3e-4
) -> AlphaGradient:
    """The gradient of the validation loss after the next step of the weights, unclipped (DARTS, equations 6 and 7).

    It returns the running statistics of the training pass under the present weights.
    """
    in_weights, in_both = gradients("params"), gradients("params", "alphas")

    @program
    def step(state: SearchState, gradient: dict, learning_rate) -> dict:
        def stepped(w, buffer, g):
            return w - learning_rate * (momentum * buffer + g + weight_decay * w)

        return jax.tree.map(stepped, state.params, optax.tree.get(state.weight_optimizer, "trace"), gradient["params"])

    @program
    def total(direct, indirect, learning_rate):
        return {"alphas": jax.tree.map(lambda d, i: d - learning_rate * i, direct, indirect)}

    def alpha_gradient(state, train, valid, learning_rate, draw=None):
        gradient, _, stats = in_weights(state, train, None, draw)
        unrolled = state.replace(params=step(state, gradient, learning_rate))
        direct, metrics, _ = in_both(unrolled, valid, None, draw)
        indirect = product(state, direct["params"], train, draw)
        return total(direct["alphas"], indirect, learning_rate), metrics, stats

    return alpha_gradient


def _exact_product(gradients: Gradients, program: Callable) -> Callable:
    """The product of the mixed second derivative of the training loss and a direction of the weights.

    Forward over reverse mode. The gradient is in weights and alphas, because forward mode passes the kernels' custom
    gradient rules only where reverse mode has replaced them.
    """
    in_both = gradients("params", "alphas")

    @program
    def hessian_product(state: SearchState, direction, train, draw):
        def in_alphas(params):
            return in_both(state.replace(params=params), train, None, draw)[0]["alphas"]

        return jax.jvp(in_alphas, (state.params,), (direction,))[1]

    return hessian_product


def _finite_product(gradients: Gradients, program: Callable) -> Callable:
    """The same by central differences, at a distance of 0.01 over the direction's norm (DARTS, equation 8)."""
    in_alphas = gradients("alphas")

    @program
    def neighbours(params: dict, direction: dict):
        radius = 0.01 / optax.tree.norm(direction)
        return radius, *(jax.tree.map(lambda w, d, s=s: w + s * radius * d, params, direction) for s in (1, -1))

    @program
    def difference(radius, above, below):
        return jax.tree.map(lambda a, b: (a - b) / (2 * radius), above, below)

    def hessian_product(state, direction, train, draw):
        radius, *sides = neighbours(state.params, direction)
        slopes = (in_alphas(state.replace(params=side), train, None, draw)[0]["alphas"] for side in sides)
        return difference(radius, *slopes)

    return hessian_product


ALPHA_GRADIENTS = {"off": first_order, "exact": exact, "finite_difference": finite_difference}
"""Factories of alpha gradients by the value of `search.unrolled`."""

"""The gradient of the alphas: of the validation loss as it is, or after one step of the weights (DARTS, section 2.3).

Each row of `ALPHA_GRADIENTS` makes an `AlphaGradient` from `gradient`, where `gradient("params", "alphas")` is the
`metrics.Gradient` in what it names, and from `program`, which compiles a part of the computation by itself.
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
          learning_rate: that of the weights.
          draw: what the sampler draws edge weights from; None: the mean.
        """


Gradients = Callable[..., Gradient]
"""`gradients(*names)`: the gradient in "params", "alphas" or both."""


def first_order(gradients: Gradients, program=lambda f: f, **_) -> AlphaGradient:
    """The validation loss under the weights as they are (DARTS with xi = 0)."""
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
    """The validation loss under the weights after their next step, unclipped (DARTS, equations 6 and 7).

    The running statistics are those of the training pass under the weights as they are.
    """
    in_weights, in_both = gradients("params"), gradients("params", "alphas")

    @program
    def step(state: SearchState, gradient: dict, learning_rate) -> dict:
        def ahead(w, buffer, g):
            return w - learning_rate * (momentum * buffer + g + weight_decay * w)

        return jax.tree.map(ahead, state.params, optax.tree.get(state.weight_optimizer, "trace"), gradient["params"])

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
    """The mixed second derivative of the training loss times a direction of the weights, forward over reverse."""
    in_both = gradients("params", "alphas")  # forward mode enters custom rules only where reverse mode has been

    @program
    def hessian_product(state: SearchState, direction, train, draw):
        def in_alphas(params):
            return in_both(state.replace(params=params), train, None, draw)[0]["alphas"]

        return jax.jvp(in_alphas, (state.params,), (direction,))[1]

    return hessian_product


def _finite_product(gradients: Gradients, program: Callable) -> Callable:
    """The same by central differences, 0.01 over the direction's norm apart from the weights (DARTS, equation 8)."""
    in_alphas = gradients("alphas")

    @program
    def beside(params: dict, direction: dict):
        radius = 0.01 / optax.tree.norm(direction)
        return radius, *(jax.tree.map(lambda w, d, s=s: w + s * radius * d, params, direction) for s in (1, -1))

    @program
    def difference(radius, above, below):
        return jax.tree.map(lambda a, b: (a - b) / (2 * radius), above, below)

    def hessian_product(state, direction, train, draw):
        radius, *sides = beside(state.params, direction)
        slopes = (in_alphas(state.replace(params=side), train, None, draw)[0]["alphas"] for side in sides)
        return difference(radius, *slopes)

    return hessian_product


ALPHA_GRADIENTS = {"off": first_order, "exact": exact, "finite_difference": finite_difference}
"""By the value of `search.unrolled`."""

"""The gradient of the alphas: of the validation loss as it is, or after one step of the weights (DARTS, section 2.3).

`gradient` below makes a `bilevel.Gradient` of what it names, such as `gradient("params", "alphas")`.
"""

from collections.abc import Callable

import jax
import optax

from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.metrics import Gradient, Metrics

AlphaGradient = Callable[..., tuple[dict, Metrics, dict]]
"""`of(state, train, valid, learning_rate)`, on a batch of each half: a `Gradient`'s results, of the alphas alone.

`learning_rate` is that of the weights."""


def first_order(gradient: Callable[..., Gradient], program=lambda f: f, **_) -> AlphaGradient:
    """The validation loss under the weights as they are (DARTS with xi = 0)."""
    of_alphas = gradient("alphas")

    def of(state, train, valid, learning_rate):
        return of_alphas(state, *valid)

    return of


def _second_order(hessian_product):
    def make(
        gradient: Callable[..., Gradient], program=lambda f: f, momentum: float = 0.9, weight_decay: float = 3e-4
    ) -> AlphaGradient:
        """The validation loss under the weights after their next step, unclipped (DARTS, equations 6 and 7).

        The running statistics are those of the training pass under the weights as they are.
        """
        of_weights, of_both, product = (
            gradient("params"),
            gradient("params", "alphas"),
            hessian_product(gradient, program),
        )

        @program
        def step(state: SearchState, gradients: dict, learning_rate) -> dict:
            def ahead(w, buffer, g):
                return w - learning_rate * (momentum * buffer + g + weight_decay * w)

            return jax.tree.map(
                ahead, state.params, optax.tree.get(state.weight_optimizer, "trace"), gradients["params"]
            )

        @program
        def total(direct, indirect, learning_rate):
            return {"alphas": jax.tree.map(lambda d, i: d - learning_rate * i, direct, indirect)}

        def of(state, train, valid, learning_rate):
            gradients, _, stats = of_weights(state, *train)
            unrolled = state.replace(params=step(state, gradients, learning_rate))
            direct, metrics, _ = of_both(unrolled, *valid)
            indirect = product(state, direct["params"], train)
            return total(direct["alphas"], indirect, learning_rate), metrics, stats

        return of

    return make


def _exact_product(gradient: Callable[..., Gradient], program):
    """The mixed second derivative of the training loss times a direction of the weights, forward over reverse."""
    of_both = gradient("params", "alphas")  # forward mode enters custom rules only where reverse mode has been

    @program
    def hessian_product(state: SearchState, direction, train):
        along = lambda params: of_both(state.replace(params=params), *train)[0]["alphas"]  # noqa: E731
        return jax.jvp(along, (state.params,), (direction,))[1]

    return hessian_product


def _finite_product(gradient: Callable[..., Gradient], program):
    """The same by central differences, 0.01 over the direction's norm apart from the weights (DARTS, equation 8)."""
    of_alphas = gradient("alphas")

    @program
    def beside(params: dict, direction: dict):
        radius = 0.01 / optax.tree.norm(direction)
        return radius, *(jax.tree.map(lambda w, d, s=s: w + s * radius * d, params, direction) for s in (1, -1))

    @program
    def difference(radius, above, below):
        return jax.tree.map(lambda a, b: (a - b) / (2 * radius), above, below)

    def product(state, direction, train):
        radius, *sides = beside(state.params, direction)
        return difference(radius, *(of_alphas(state.replace(params=side), *train)[0]["alphas"] for side in sides))

    return product


exact, finite_difference = _second_order(_exact_product), _second_order(_finite_product)

ALPHA_GRADIENTS = {"off": first_order, "exact": exact, "finite_difference": finite_difference}
"""By the value of `search.unrolled`."""

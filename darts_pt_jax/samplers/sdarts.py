"""SDARTS: weights trained under perturbed edge weights (Chen and Hsieh, 2020; paper, section 5.1).

Epsilon bounds the perturbation, or is its standard deviation (Gaussian noise on the alphas); it grows linearly through the
search. Alpha steps use the mean.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from darts_pt_jax import architecture
from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.samplers.base import Sampler, linear, split
from darts_pt_jax.spaces import SearchSpace

ATTACK_STEPS = 7


def project(space: SearchSpace, weights: EdgeWeights) -> dict[str, jax.Array]:
    """Clips edge weights to [0, 1] and divides each row by its sum.

    A row without a positive entry becomes one-hot at its largest entry, as in the reference code.
    """
    rows = {}
    for kind, graph in space.cells.items():
        largest = jnp.where(graph.candidate_mask, weights[kind], -jnp.inf).argmax(-1)
        clipped = jnp.where(graph.candidate_mask, weights[kind].clip(0, 1), 0)
        total = clipped.sum(-1, keepdims=True)
        one_hot = jax.nn.one_hot(largest, graph.width)
        rows[kind] = jnp.where(total > 0, clipped / jnp.where(total > 0, total, 1), one_hot)
    return rows


def uniform_noise(space: SearchSpace, weights: EdgeWeights, key: jax.Array, epsilon) -> dict[str, jax.Array]:
    """Adds independent noise from U(-epsilon, epsilon) to edge weights, and projects them."""
    keys = split(key, weights)
    noisy = {}
    for kind, row in weights.items():
        noisy[kind] = row + jax.random.uniform(keys[kind], row.shape, minval=-epsilon, maxval=epsilon)
    return project(space, noisy)


def _around(space: SearchSpace, state, key: jax.Array, epsilon) -> tuple[dict, dict]:
    """The mean edge weights, and the same with uniform noise on open edges."""
    mean = architecture.edge_weights(space, state.alphas, state.decisions)
    return mean, architecture.decided(uniform_noise(space, mean, key, epsilon), state.decisions)


def _uniform(space: SearchSpace, loss: Callable, program: Callable, scan: bool) -> Callable:
    @program
    def noisy(state, key: jax.Array, epsilon):
        return _around(space, state, key, epsilon)[1]

    return lambda state, batch, key, epsilon: noisy(state, key, epsilon)


def _gaussian(space: SearchSpace, loss: Callable, program: Callable, scan: bool) -> Callable:
    @program
    def noisy(state, key: jax.Array, epsilon):
        keys = split(key, state.alphas)
        alphas = {kind: row + epsilon * jax.random.normal(keys[kind], row.shape) for kind, row in state.alphas.items()}
        return architecture.edge_weights(space, alphas, state.decisions)

    return lambda state, batch, key, epsilon: noisy(state, key, epsilon)


def _adversarial(space: SearchSpace, loss: Callable, program: Callable, scan: bool) -> Callable:
    """Projected sign-gradient ascent of the training loss within epsilon of the mean, from a random start.

    It reads running statistics and does not update them. If the loss does not rise, the mean is returned.
    """

    @program
    def start(state, key: jax.Array, epsilon):
        return _around(space, state, key, epsilon)

    @program
    def ascend(weights, clean, state, batch, epsilon):
        slope = jax.grad(loss)(weights, state, batch)

        def moved(row, begin, gradient):
            return begin + (row + 2 * epsilon / ATTACK_STEPS * jnp.sign(gradient) - begin).clip(-epsilon, epsilon)

        boxed = jax.tree.map(moved, weights, clean, slope)
        return architecture.decided(project(space, boxed), state.decisions)

    @program
    def worse(weights, clean, state, batch):
        raises = loss(weights, state, batch) > loss(clean, state, batch)
        return jax.tree.map(lambda row, begin: jnp.where(raises, row, begin), weights, clean)

    def perturb(state, batch, key: jax.Array, epsilon) -> EdgeWeights:
        clean, weights = start(state, key, epsilon)

        def step(weights, _):
            return ascend(weights, clean, state, batch, epsilon), None

        if scan:
            weights, _ = jax.lax.scan(step, weights, length=ATTACK_STEPS)
        else:
            for _ in range(ATTACK_STEPS):
                weights, _ = step(weights, None)
        return worse(weights, clean, state, batch)

    return perturb


def sdarts_rs(epsilon: float, epsilon_first: float) -> Sampler:
    """SDARTS-RS as both reference codes run it: uniform noise on the softmax."""
    return Sampler(perturb=_uniform, schedule=linear(epsilon_first, epsilon))


def sdarts_rs_gaussian(epsilon: float, epsilon_first: float) -> Sampler:
    """SDARTS-RS as the paper writes it: Gaussian noise on the alphas, before the softmax."""
    return Sampler(perturb=_gaussian, schedule=linear(epsilon_first, epsilon))


def sdarts_adv(epsilon: float, epsilon_first: float) -> Sampler:
    """SDARTS-ADV: projected sign-gradient ascent of the training loss."""
    return Sampler(perturb=_adversarial, schedule=linear(epsilon_first, epsilon))

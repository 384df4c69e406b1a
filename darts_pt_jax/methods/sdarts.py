"""Weights trained under perturbed edge weights (SDARTS: Chen and Hsieh, 2020; paper, section 5.1).

A perturbation moves edge weights by at most, or with standard deviation, `epsilon`; rows of decided and removed edges
stay as they are. `program` says how parts are compiled.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.spaces import SearchSpace
from darts_pt_jax.supernet import EdgeWeights, Supernet

ATTACK_STEPS = 7

Perturb = Callable[..., tuple]
"""`perturb(state, batch, key, epsilon)`: a training batch with the edge weights that the weights' step is taken under."""


def project(space: SearchSpace, weights: EdgeWeights) -> dict[str, jax.Array]:
    """Edge weights clipped to [0, 1] and divided by their row's sum.

    A row without a positive entry becomes one-hot at its largest, as in the reference code.
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
    """Edge weights with independent noise from U(-epsilon, epsilon), projected."""
    keys = dict(zip(weights, jax.random.split(key, len(weights)), strict=True))
    draw = lambda kind, row: jax.random.uniform(keys[kind], row.shape, minval=-epsilon, maxval=epsilon)  # noqa: E731
    return project(space, {kind: row + draw(kind, row) for kind, row in weights.items()})


def _around(net: Supernet, state: SearchState, key: jax.Array, epsilon) -> tuple[dict, dict]:
    """Edge weights as alphas and decisions make them, and the same with uniform noise on what is open."""
    clean = architecture.edge_weights(net.space, state.alphas, state.decisions)
    return clean, architecture.decided(uniform_noise(net.space, clean, key, epsilon), state.decisions)


def uniform(net: Supernet, program=lambda f: f, scan: bool = False) -> Perturb:
    """SDARTS-RS as both reference codes run it: uniform noise on the softmax."""

    @program
    def noisy(state: SearchState, key: jax.Array, epsilon):
        return _around(net, state, key, epsilon)[1]

    return lambda state, batch, key, epsilon: (*batch, noisy(state, key, epsilon))


def gaussian(net: Supernet, program=lambda f: f, scan: bool = False) -> Perturb:
    """SDARTS-RS as the paper writes it: Gaussian noise on the alphas, before the softmax."""

    @program
    def noisy(state: SearchState, key: jax.Array, epsilon):
        keys = dict(zip(state.alphas, jax.random.split(key, len(state.alphas)), strict=True))
        alphas = {k: row + epsilon * jax.random.normal(keys[k], row.shape) for k, row in state.alphas.items()}
        return architecture.edge_weights(net.space, alphas, state.decisions)

    return lambda state, batch, key, epsilon: (*batch, noisy(state, key, epsilon))


def adversarial(net: Supernet, program=lambda f: f, scan: bool = False) -> Perturb:
    """SDARTS-ADV: projected sign-gradient ascent of the training loss in the box of `epsilon`, from a random start.

    Running statistics are used and left alone. Edge weights that do not raise the loss are given up for the unperturbed
    ones. `scan`: whether the steps are a `lax.scan`.
    """

    def loss(weights, state: SearchState, images, labels, noise_key):
        return bilevel.forward(net, state.variables, weights, images, labels, noise_key, False)[0].loss

    @program
    def start(state: SearchState, key: jax.Array, epsilon):
        return _around(net, state, key, epsilon)

    @program
    def ascend(weights, clean, state: SearchState, batch, epsilon):
        slope = jax.grad(loss)(weights, state, *batch)

        def moved(row, start, gradient):
            return start + (row + 2 * epsilon / ATTACK_STEPS * jnp.sign(gradient) - start).clip(-epsilon, epsilon)

        boxed = jax.tree.map(moved, weights, clean, slope)
        return architecture.decided(project(net.space, boxed), state.decisions)

    @program
    def worse(weights, clean, state: SearchState, batch):
        raises = loss(weights, state, *batch) > loss(clean, state, *batch)
        return jax.tree.map(lambda row, start: jnp.where(raises, row, start), weights, clean)

    def perturb(state, batch, key, epsilon):
        clean, weights = start(state, key, epsilon)
        if scan:
            step = lambda weights, _: (ascend(weights, clean, state, batch, epsilon), None)  # noqa: E731
            weights, _ = jax.lax.scan(step, weights, length=ATTACK_STEPS)
        else:
            for _ in range(ATTACK_STEPS):
                weights = ascend(weights, clean, state, batch, epsilon)
        return *batch, worse(weights, clean, state, batch)

    return perturb


def none(net: Supernet, program=lambda f: f, scan: bool = False) -> Perturb:
    """Edge weights as alphas and decisions make them, which a gradient takes of itself."""
    return lambda state, batch, key, epsilon: batch


PERTURBATIONS = {"none": none, "uniform": uniform, "gaussian": gaussian, "adversarial": adversarial}
"""By the value of `search.perturb`."""

"""SNAS and GDAS: edge weights drawn by Gumbel's trick, soft or hard, at a temperature that falls during the search.

Alpha steps and weight steps draw anew. Validation, scoring and magnitude use the softmax of the alphas.
"""

import jax

from darts_pt_jax import architecture
from darts_pt_jax.architecture import Alphas, EdgeWeights
from darts_pt_jax.samplers.base import Sampler, linear, split
from darts_pt_jax.spaces import SearchSpace


def soft(space: SearchSpace, alphas: Alphas, key: jax.Array, temperature, state) -> dict[str, jax.Array]:
    """A draw of the Gumbel softmax (concrete) distribution [E, O]: softmax((alpha + g) / temperature)."""
    keys = split(key, alphas)
    noisy = {kind: (row + jax.random.gumbel(keys[kind], row.shape)) / temperature for kind, row in alphas.items()}
    return architecture.mixtures(space, noisy)


def hard(space: SearchSpace, alphas: Alphas, key: jax.Array, temperature, state) -> EdgeWeights:
    """One-hot rows [E, O] at the largest entry of `soft`, with the gradient of `soft` (straight through)."""

    def straight_through(row: jax.Array) -> jax.Array:
        one_hot = jax.nn.one_hot(row.argmax(-1), row.shape[-1])
        return jax.lax.stop_gradient(one_hot - row) + row

    return jax.tree.map(straight_through, soft(space, alphas, key, temperature, state))


def snas(temperature: float, temperature_first: float) -> Sampler:
    """SNAS (Xie et al., ICLR 2019): the soft draw; linear cooling from 10 to 1 as DrNAS' authors run it."""
    return Sampler(sample=soft, schedule=linear(temperature_first, temperature))


def gdas(temperature: float, temperature_first: float) -> Sampler:
    """GDAS (Dong and Yang, CVPR 2019): the hard draw; its code cools linearly from 10 to 0.1.

    Two things differ from its code, which computes only the drawn operation of an edge. Here all are computed, and multiplied
    by their weights: the running statistics of all are updated, and the gradient of an alpha that is not drawn is that of the
    soft draw. There it is the gradient of a constant image, which the code adds in place of the operation's output.
    """
    return Sampler(sample=hard, schedule=linear(temperature_first, temperature))

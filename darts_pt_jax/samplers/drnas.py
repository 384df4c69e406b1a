"""DrNAS: edge weights drawn from Dirichlet distributions whose concentrations are learned (Chen et al., ICLR 2021)."""

import jax
import jax.numpy as jnp

from darts_pt_jax import architecture
from darts_pt_jax.architecture import Alphas
from darts_pt_jax.samplers.base import Sampler, split
from darts_pt_jax.spaces import SearchSpace


def concentrations(alphas: Alphas) -> dict[str, jax.Array]:
    """The concentrations elu(alpha) + 1, [E, O] by cell kind (section 3.1); 1 is the uniform distribution."""
    return {kind: jax.nn.elu(row) + 1 for kind, row in alphas.items()}


def draw(space: SearchSpace, alphas: Alphas, key: jax.Array, level, state) -> dict[str, jax.Array]:
    """A draw for every edge, over its candidates: normalised Gamma variables, differentiable in the alphas."""
    keys = split(key, alphas)
    logs = {kind: jax.random.loggamma(keys[kind], row) for kind, row in concentrations(alphas).items()}
    return architecture.mixtures(space, logs)


def expected(space: SearchSpace, alphas: Alphas) -> dict[str, jax.Array]:
    """The distributions' means: concentrations divided by their sum over the edge's candidates."""
    means = {}
    for kind, row in concentrations(alphas).items():
        of_candidates = jnp.where(space.cells[kind].candidate_mask, row, 0)
        means[kind] = of_candidates / of_candidates.sum(-1, keepdims=True)
    return means


def drnas() -> Sampler:
    """Draws in alpha steps and weight steps; validation, scoring and magnitude use the mean.

    The public code chooses by the softmax of the alphas instead of the mean, which ranks an edge's candidates alike, and
    validates on draws. Its regulariser is the weight decay of the alphas, 1e-3.
    """
    return Sampler(mean=expected, sample=draw)

"""FairDARTS: each operation has a weight of its own, and does not compete with the others (Chu et al., ECCV 2020)."""

import jax
import jax.numpy as jnp

from darts_pt_jax.architecture import Alphas
from darts_pt_jax.samplers.base import Sampler
from darts_pt_jax.spaces import SearchSpace


def sigmoids(space: SearchSpace, alphas: Alphas) -> dict[str, jax.Array]:
    """The sigmoid of the alphas [E, O] by cell kind, 0 where there is no candidate (section 4.1)."""
    return {
        kind: jnp.where(graph.candidate_mask, jax.nn.sigmoid(alphas[kind]), 0) for kind, graph in space.cells.items()
    }


def fairdarts() -> Sampler:
    """The sigmoid everywhere. The regulariser `zero_one` drives it to 0 or 1.

    The public code keeps up to two operations of an edge above a threshold of 0.85; here every selection keeps one.
    """
    return Sampler(mean=sigmoids, sums_to_one=False)

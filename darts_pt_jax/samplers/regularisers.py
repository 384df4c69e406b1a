"""Regularisers of the alphas: what an alpha step adds to the validation loss, besides the optimiser's weight decay."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from darts_pt_jax.architecture import Alphas
from darts_pt_jax.spaces import SearchSpace


@dataclasses.dataclass(frozen=True)
class Regulariser:
    """A penalty on the alphas.

    Attributes:
      penalty: `penalty(space, alphas)` gives a float32 scalar for alphas [E, O] by cell kind. Columns that a sampler adds
        are not penalised.
      grows: whether its weight grows linearly through the search, from 0 to `search.alpha_regulariser_weight`;
        otherwise it has that weight throughout.
    """

    penalty: Callable[[SearchSpace, Alphas], jax.Array]
    grows: bool = False

    def weight(self, weight: float, progress: float) -> float:
        """Its weight at a progress from 0 to 1."""
        return weight * progress if self.grows else weight


def beta_decay(space: SearchSpace, alphas: Alphas) -> jax.Array:
    """The mean over all edges of log(sum(exp(alpha))) (Ye et al., beta-DARTS, CVPR 2022, equation 12)."""
    rows = []
    for kind, graph in space.cells.items():
        of_candidates = alphas[kind][:, : graph.width]
        rows.append(jax.nn.logsumexp(jnp.where(graph.candidate_mask, of_candidates, -jnp.inf), -1))
    return jnp.concatenate(rows).mean()


def zero_one(space: SearchSpace, alphas: Alphas) -> jax.Array:
    """Less the mean over all candidates of (sigmoid(alpha) - 0.5)^2 (Chu et al., FairDARTS, ECCV 2020, equation 3)."""
    squares = []
    for kind, graph in space.cells.items():
        of_candidates = alphas[kind][:, : graph.width][graph.candidate_mask]
        squares.append(jnp.square(jax.nn.sigmoid(of_candidates) - 0.5))
    return -jnp.concatenate(squares).mean()


REGULARISERS: dict[str, Regulariser | None] = {
    "none": None,
    "beta_decay": Regulariser(beta_decay, grows=True),
    "zero_one": Regulariser(zero_one),
}
"""Regularisers by the value of `search.alpha_regulariser`."""

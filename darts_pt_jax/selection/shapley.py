"""Shapley values of the candidates, from sampled permutations (Shapley-NAS: Xiao et al., 2022).

The players are all candidates of all edges and cell kinds, the game is the accuracy of the supernet with the players that
are left. Along a random order, players leave one by one on one batch, and each contributes what the accuracy loses. As in
the authors' code (train_search.py, `shap_estimation`), an order ends once the accuracy is below half of that of the whole
supernet, and the players that are left count 0; the value is the mean contribution less the standard deviation over the
orders. There the values drive the alphas during the search; here they rank the candidates of a finished one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import numpy as np

from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.loops import Begin, Loop
from darts_pt_jax.metrics import Evaluate, Metrics
from darts_pt_jax.spaces import SearchSpace

ENDS_BELOW = 0.5
"""An order ends below this share of the accuracy of the whole supernet."""

Player = tuple[str, int, int]
"""Cell kind, edge, and position of the candidate."""


@flax.struct.dataclass
class Contributions:
    """What the players contribute.

    Attributes:
      loss, correct, images: sums over the batches, of the whole supernet, as in `Metrics`.
      values: float64 [N, P], the share of right images that each player's removal took away in each permutation.
    """

    loss: Any
    correct: Any
    images: Any
    values: Any


def players(space: SearchSpace) -> list[Player]:
    """All candidates of a space."""
    return [
        (kind, e, o) for kind, graph in space.cells.items() for e, edge in enumerate(graph.edges) for o, _ in edge.operations
    ]  # fmt: skip


Masks = Mapping[str, np.ndarray]
"""float32 [E, O] by cell kind, which multiply the edge weights."""


def make_measure(evaluate: Evaluate) -> Callable[[Any, EdgeWeights, Masks, Any], Metrics]:
    """A function that looks at the supernet under masks: `measure(variables, edge_weights, masks, batch)`.

    It returns sums over the batch.
    """

    def measure(variables: Any, edge_weights: EdgeWeights, masks: Masks, batch: Any) -> Metrics:
        masked = {kind: weights * masks[kind] for kind, weights in edge_weights.items()}
        return Metrics.of_each(*evaluate(variables, masked, batch)).sum()

    return measure


def contributions(
    measure: Callable[[Masks, Any], Metrics], space: SearchSpace, permutations: Sequence[np.ndarray],
    batches: Sequence, begin: Begin = Loop, state: Any = None, images: int = 0,
) -> Contributions:  # fmt: skip
    """The contributions of all players.

    Args:
      measure: the function of `make_measure` with its first two arguments bound.
      space: the search space.
      permutations: the orders in which players leave, each of all positions in `players(space)`.
      batches: what to look at, one for each permutation.
      begin: begins the loop over the permutations.
      state: what the loop saves.
      images: number of images of a batch.
    """
    all_players = players(space)
    zero = np.zeros(())
    first = Contributions(zero, zero.astype(int), zero.astype(int), np.zeros((len(permutations), len(all_players))))
    loop = begin("permutation", state, first, len(permutations), images * (1 + len(all_players)))
    for i in loop:
        masks = {kind: np.ones((len(graph.edges), graph.width), np.float32) for kind, graph in space.cells.items()}
        whole = jax.device_get(measure(masks, batches[i]))
        before, looks, values = whole.correct, 1, loop.total.values.copy()
        for player in permutations[i]:
            kind, edge, candidate = all_players[player]
            masks[kind][edge, candidate] = 0
            after = jax.device_get(measure(masks, batches[i]).correct)
            values[i, player] = (before - after) / whole.images
            before, looks = after, looks + 1
            if after < ENDS_BELOW * whole.correct:
                break
        loop.images = images * looks  # an order may end early
        sums = loop.total
        loop.total = Contributions(
            sums.loss + whole.loss, sums.correct + whole.correct, sums.images + whole.images, values
        )
    return loop.total


def shapley_values(space: SearchSpace, found: Contributions) -> Mapping[str, np.ndarray]:
    """Mean less standard deviation over the permutations, [E, O] by cell kind; -inf where there is no candidate."""
    values = {kind: np.full((len(graph.edges), graph.width), -np.inf) for kind, graph in space.cells.items()}
    of_player = found.values.mean(0) - found.values.std(0)
    for (kind, edge, candidate), value in zip(players(space), of_player, strict=True):
        values[kind][edge, candidate] = value
    return values

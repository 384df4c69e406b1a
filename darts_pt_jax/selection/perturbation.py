"""Perturbation-based selection (paper, Algorithms 1 and 2): remove one thing, see what the supernet loses.

All removals of a decision are masks, evaluated by one jitted call on the same images. The choice follows from the
scores alone and can be made again from a record of them.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.bilevel import Metrics, SearchState, forward
from darts_pt_jax.data import batches
from darts_pt_jax.supernet import EdgeWeights, Supernet

CRITERIA = ("acc", "loss")


def make_scorer(net: Supernet, kind: str, batch_statistics: bool = True, augment: bool = True):
    """A function that scores masks on one cell kind: `score(state, edge_weights, masks, dataset, indices, key)`.

    Its arguments are the search state, edge weights [E, O] by kind, masks [M, E, O] on `kind`, a `Dataset`, the
    image indices [B] of one batch, and a key. Returns `Metrics` with entries [M]. Weights, images, augmentation and
    the draws of a noise operation are shared by all masks; cells before the first one of `kind` are computed once.
    Running statistics are left alone. The edge is in the masks' values, so one compilation serves all edges of a kind.
    """

    def score(state: SearchState, edge_weights: EdgeWeights, masks: jax.Array, dataset, indices, key) -> Metrics:
        augment_key, noise_key = jax.random.split(key)
        images, labels = batches.batch(dataset, indices, augment_key if augment else None)

        def masked(mask):
            weights = {**edge_weights, kind: edge_weights[kind] * mask}
            return forward(net, state.variables, weights, images, labels, noise_key, batch_statistics)[0]

        return jax.vmap(masked)(masks)

    return score


def score_masks(score, masks: np.ndarray, size: int, indices: jax.Array, keys: Sequence[jax.Array]) -> Metrics:
    """Scores masks [K, E, O] over many batches in calls of `size` masks each.

    Args:
      score: `score(masks, indices, key)` for one batch, with the other arguments of `make_scorer`'s function bound.
      masks: what to score; the last call is filled up with copies of the last mask, whose results are dropped.
      size: M, masks of one call.
      indices: int [steps, B].
      keys: one key for each batch.

    Returns:
      `Metrics` with NumPy entries [K]; the loss is summed in float64.
    """
    correct, loss, images = [], [], []
    for first in range(0, len(masks), size):
        chunk = masks[first : first + size]
        filled = jnp.asarray(np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk), 0)]))
        parts = jax.device_get([score(filled, rows, key) for rows, key in zip(indices, keys, strict=True)])
        correct.append(np.sum([p.correct for p in parts], 0, np.int64)[: len(chunk)])
        loss.append(np.sum([p.loss for p in parts], 0, np.float64)[: len(chunk)])
        images.append(np.sum([p.images for p in parts], 0, np.int64)[: len(chunk)])
    return Metrics(*map(np.concatenate, (loss, correct, images)))


def _harm(correct, loss, criterion: str) -> np.ndarray:
    """How much each removal hurts: larger is worse for the supernet, so larger marks the more important candidate."""
    return -np.asarray(correct) if criterion == "acc" else np.asarray(loss)


def most_harmful(correct, loss, criterion: str, eligible: Sequence[int]) -> tuple[int, float]:
    """The candidate to keep: the one whose removal hurts most; of equal ones the first, as in the reference code.

    Args:
      correct, loss: scores [K] after each removal.
      criterion: "acc" reads `correct`, "loss" reads `loss`.
      eligible: positions that may be chosen.

    Returns:
      The chosen position, and its margin over the next eligible one in units of the criterion.
    """
    harm = _harm(correct, loss, criterion)[list(eligible)]
    rest = np.delete(harm, harm.argmax())
    margin = (harm.max() - rest.max()).item() if rest.size else 0
    return list(eligible)[int(harm.argmax())], margin


def least_harmful(correct, loss, criterion: str) -> tuple[int, float]:
    """The edge to drop: the one whose removal hurts least; of equal ones the last. Position and margin."""
    harm = _harm(correct, loss, criterion)
    position = len(harm) - 1 - int(harm[::-1].argmin())
    return position, (np.delete(harm, position).min() - harm[position]).item()

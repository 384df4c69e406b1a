"""Scoring: what a supernet gets right under masks, all of them on the same images.

All masks of a decision are evaluated by one jitted call, or by a few. Nothing here knows how the supernet computes: it is
any `metrics.Evaluate` that takes edge weights.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.loops import Begin, Loop
from darts_pt_jax.metrics import Evaluate, Metrics
from darts_pt_jax.selection.criteria import CRITERIA, Criterion

RECORDED = (CRITERIA["acc"], CRITERIA["loss"])
"""Criteria that every scoring records, whatever it decides by."""


class Score(Protocol):
    """Scores masks."""

    def __call__(self, masks: np.ndarray) -> dict:
        """Returns plain numbers and lists for masks [K, E, O].

        `images`: how many were scored. `baseline`: {correct, loss} of the unmasked supernet. `correct` [K] and mean
        `loss` [K] under each mask, and a further criterion's values under its own name. `paired` {correct, loss, ...}
        [K + 1, K + 1] compares every two of the unmasked supernet, which is first, and the masks on the same images: the
        sum over images of the squared difference of the criterion's values. For `correct` that is the number of images
        that only one of the two gets right. A paired standard error needs no more (`certainty.excess`).
        """


@flax.struct.dataclass
class Sums:
    """Sums over images by mask.

    Attributes:
      images: how many images, a scalar.
      totals: by a criterion's name in records, [K]; float64, whole numbers where it counts.
      pairs: the sums over images of squared differences of every two masks, [K, K].
    """

    images: np.ndarray
    totals: dict[str, np.ndarray]
    pairs: dict[str, np.ndarray]

    @classmethod
    def zero(cls, masks: int, criteria: Sequence[Criterion]) -> "Sums":
        """The sums over no image."""
        types = {criterion.record: int if criterion.counts else float for criterion in criteria}
        totals = {name: np.zeros(masks, type_) for name, type_ in types.items()}
        return cls(np.zeros((), int), totals, {name: np.zeros((masks, masks), t) for name, t in types.items()})

    @property
    def loss(self) -> np.ndarray:
        """Cross-entropy [K]."""
        return self.totals["loss"]

    @property
    def correct(self) -> np.ndarray:
        """Correct predictions [K]."""
        return self.totals["correct"]


class Scorer(Protocol):
    """Scores the masks of one call on one batch."""

    def __call__(
        self, masks: jax.Array, batch: Any, unmasked: jax.Array | None = None
    ) -> tuple[Metrics, dict[str, jax.Array], jax.Array | None]:
        """Returns sums over the batch [M], each criterion's values [M, B], and the first mask's logits [B, classes].

        The logits are None where no criterion compares; `unmasked`, the logits of the unmasked supernet, where the first
        mask is that.
        """


def criteria_with(criterion: Criterion) -> tuple[Criterion, ...]:
    """What a scoring measures: `RECORDED`, and the criterion that decides."""
    return tuple(dict.fromkeys((*RECORDED, criterion)))


def make_scorer(evaluate: Evaluate, kind: str, criteria: Sequence[Criterion] = RECORDED) -> Callable:
    """A function that scores masks on one cell kind: `scorer(variables, edge_weights, masks, batch, unmasked=None)`.

    The first two arguments are those of `evaluate`, the others those of a `Scorer`, which it is once they are bound.
    Masks [M, E, O] multiply the edge weights of `kind`. Batch, augmentation and noise are shared by all masks, and what
    does not depend on `kind` (the cells before its first one) is computed once. The edge is in the masks' values, so one
    compilation serves all edges of a kind.
    """

    def scorer(
        variables: Any, edge_weights: EdgeWeights, masks: jax.Array, batch: Any, unmasked: jax.Array | None = None
    ) -> tuple[Metrics, dict[str, jax.Array], jax.Array | None]:
        def masked(mask):
            logits, labels = evaluate(variables, {**edge_weights, kind: edge_weights[kind] * mask}, batch)
            # apart, so that the sums are computed as they are without the values, to the bit
            return Metrics.of_each(logits, labels).sum(), jax.lax.optimization_barrier(logits), labels

        sums, logits, labels = jax.vmap(masked, out_axes=(0, 0, None))(masks)
        unmasked = logits[0] if unmasked is None else unmasked
        values = {c.record: jax.vmap(c.measure, (0, None, None))(logits, labels, unmasked) for c in criteria}
        return sums, values, unmasked if any(c.compares for c in criteria) else None

    return scorer


def filled_up(masks: np.ndarray, count: int) -> np.ndarray:
    """`count` masks: those given, and copies of the last."""
    return np.concatenate([masks, np.repeat(masks[-1:], count - len(masks), 0)])


def score_masks(
    scorer: Scorer, masks: np.ndarray, size: int, batches: Sequence, criteria: Sequence[Criterion] = RECORDED,
    begin: Begin = Loop, state: Any = None, images: int = 0,
) -> Sums:  # fmt: skip
    """Scores masks [K, E, O], the first of which removes nothing, on many batches.

    All calls of a batch are one step, so that every two masks can be compared image by image.

    Args:
      scorer: that of `make_scorer` with its first two arguments bound.
      masks: what to score. The last call is filled up with copies of the last mask, whose results are dropped.
      size: M, masks of one call.
      batches: what to score on.
      criteria: what the scorer measures, `RECORDED` among them.
      begin: begins the loop over the batches.
      state: what the loop saves.
      images: images that go through the supernet on each batch, all masks together.
    """
    calls = -(-len(masks) // size)
    filled = jnp.asarray(filled_up(masks, calls * size).reshape(calls, size, *masks.shape[1:]))
    loop = begin("scoring", state, Sums.zero(len(masks), criteria), len(batches), images)
    for i in loop:
        parts, unmasked = [], None
        for call in filled:
            sums, values, unmasked = scorer(call, batches[i], unmasked)
            parts.append((sums, values))
        sums, values = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(masks)], *jax.device_get(parts))
        loop.total = _added(loop.total, sums, values)
    return loop.total


def _added(total: Sums, sums: Metrics, values: Mapping[str, np.ndarray]) -> Sums:
    """The total with a batch's sums by mask and its values [K, B] by criterion."""
    of_batch = {name: each.sum(-1, dtype=total.totals[name].dtype) for name, each in values.items()}
    of_batch |= {"correct": sums.correct, "loss": sums.loss}  # summed up by the program itself
    return Sums(
        total.images + sums.images[0],
        {name: total.totals[name] + of_batch[name] for name in total.totals},
        {name: total.pairs[name] + _squared_differences(values[name]) for name in total.pairs},
    )


def _squared_differences(values: np.ndarray) -> np.ndarray:
    """Of values [K, B], the sum over B of the squared difference of every two rows: [K, K]."""
    return np.square(values[:, None].astype(np.float64) - values).sum(-1).astype(np.result_type(values, np.int64))


def make_score(
    scorer: Scorer, size: int, batches: Sequence, criterion: Criterion = RECORDED[0], begin: Begin = Loop,
    state: Any = None, images: int = 0,
) -> Score:  # fmt: skip
    """A `Score` by `score_masks`, whose arguments these are; the unmasked supernet goes first.

    `criterion` is recorded besides `RECORDED`.
    """
    criteria = criteria_with(criterion)

    def score(masks: np.ndarray) -> dict:
        every = np.concatenate([np.ones_like(masks[:1]), masks])
        sums = score_masks(scorer, every, size, batches, criteria, begin, state, images)
        count = int(sums.images)
        values = {c.record: c.recorded(sums.totals[c.record], count).tolist() for c in criteria}
        return {
            "images": count,
            "baseline": {name: each[0] for name, each in values.items()},
            **{name: each[1:] for name, each in values.items()},
            "paired": {name: pairs.tolist() for name, pairs in sums.pairs.items()},
        }

    return score

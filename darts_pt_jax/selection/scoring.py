"""Scoring: what a supernet gets right under masks, with the same images for all masks.

One jitted call, or a few, evaluate all masks of a decision. The supernet can be any `metrics.Evaluate` that takes edge
weights.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.loops import Begin, Loop
from darts_pt_jax.metrics import Evaluate, Metrics
from darts_pt_jax.selection.criteria import CRITERIA, Criterion

RECORDED = (CRITERIA["loss"], CRITERIA["acc"])
"""Criteria that every scoring records, whichever criterion decides."""


class Score(Protocol):
    """Scores masks."""

    def __call__(self, masks: np.ndarray) -> dict:
        """Returns plain numbers and lists for masks [K, E, O].

        images: how many images were scored.
        baseline: {correct, loss, ...} of the unmasked supernet.
        correct, loss, ...: the number of right images [K], the mean loss [K], and a further criterion's values [K], under
          each mask.
        paired: {correct, loss, ...}, [K + 1, K + 1], over all pairs of masks, the first of which is the unmasked
          supernet: the sum over images of the squared difference of the criterion's values. For `correct` this is the
          number of images that only one of the two gets right. `certainty.excess` makes a standard error of it.
        """


@flax.struct.dataclass
class Sums:
    """Sums over images for each mask.

    Attributes:
      images: number of images, a scalar.
      totals: sums of each criterion, [K], by its name in records; int64 for a criterion that counts, else float64.
      pairs: sums over images of the squared difference of two masks, [K, K], by the same names.
    """

    images: np.ndarray
    totals: dict[str, np.ndarray]
    pairs: dict[str, np.ndarray]

    @classmethod
    def zero(cls, masks: int, criteria: Sequence[Criterion]) -> "Sums":
        """Sums over no images."""
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
    ) -> tuple[Metrics, list[jax.Array], jax.Array | None]:
        """Returns sums over the batch [M], the values [M, B] of every criterion, and the unmasked logits [B, classes].

        Args:
          masks: float32 [M, E, O].
          batch: as `evaluate` takes it.
          unmasked: logits of the unmasked supernet, from an earlier call; None: the first mask removes nothing. The
            returned logits are None if no criterion compares with them.
        """


def criteria_with(criterion: Criterion) -> tuple[Criterion, ...]:
    """The criteria that a scoring measures: `RECORDED`, and the one that decides."""
    return tuple(dict.fromkeys((*RECORDED, criterion)))


def make_scorer(evaluate: Evaluate, kind: str, criteria: Sequence[Criterion] = RECORDED) -> Callable:
    """A function that scores masks on one cell kind: `scorer(variables, edge_weights, masks, batch, unmasked=None)`.

    The first two arguments go to `evaluate`; with them bound, the function is a `Scorer`. Masks [M, E, O] multiply the
    edge weights of `kind`. All masks share batch, augmentation and noise, and the cells before the first one of `kind` are
    computed once. The masks alone say which edge is scored, so one compilation serves all edges of a kind.
    """

    def scorer(
        variables: Any, edge_weights: EdgeWeights, masks: jax.Array, batch: Any, unmasked: jax.Array | None = None
    ) -> tuple[Metrics, list[jax.Array], jax.Array | None]:
        def masked(mask):
            logits, labels = evaluate(variables, {**edge_weights, kind: edge_weights[kind] * mask}, batch)
            # the barrier keeps the sums equal, to the bit, to those of a program without the values
            return Metrics.of_each(logits, labels).sum(), jax.lax.optimization_barrier(logits), labels

        sums, logits, labels = jax.vmap(masked, out_axes=(0, 0, None))(masks)
        unmasked = logits[0] if unmasked is None else unmasked
        values = [jax.vmap(c.measure, (0, None, None))(logits, labels, unmasked) for c in criteria]
        for c, of_images in zip(criteria, values, strict=True):
            chex.assert_shape(
                of_images, logits.shape[:2], custom_message=f"criterion {c.name}: a number for each image"
            )
        return sums, values, unmasked if any(c.compares for c in criteria) else None

    return scorer


def filled_up(masks: np.ndarray, count: int) -> np.ndarray:
    """Fills masks up to `count` with copies of the last."""
    return np.concatenate([masks, np.repeat(masks[-1:], count - len(masks), 0)])


def score_masks(
    scorer: Scorer, masks: np.ndarray, size: int, batches: Sequence, criteria: Sequence[Criterion] = RECORDED,
    begin: Begin = Loop, state: Any = None, images: int = 0,
) -> Sums:  # fmt: skip
    """Scores masks [K, E, O] on many batches; the first mask removes nothing.

    All calls on a batch are one step, so that any two masks can be compared image by image.

    Args:
      scorer: the function of `make_scorer` with its first two arguments bound.
      masks: the masks. Copies of the last mask fill up the last call; their results are dropped.
      size: M, the number of masks in a call.
      batches: what to score on.
      criteria: what the scorer measures, `RECORDED` among them.
      begin: begins the loop over the batches.
      state: what the loop saves.
      images: number of images that a batch sends through the supernet, over all masks.
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
        loop.total = _added(loop.total, sums, {c.record: each for c, each in zip(criteria, values, strict=True)})
    for name, values in loop.total.totals.items():
        if not np.isfinite(values).all():
            raise FloatingPointError(f"scoring: criterion {name} is not finite: look at it, or at the data")
    return loop.total


def _added(total: Sums, sums: Metrics, values: Mapping[str, np.ndarray]) -> Sums:
    """Adds a batch to the total: its sums [K], and its values [K, B] by criterion."""
    added = {name: each.sum(-1, dtype=total.totals[name].dtype) for name, each in values.items()}
    added |= {"correct": sums.correct, "loss": sums.loss}  # the program has summed these
    return Sums(
        total.images + sums.images[0],
        {name: total.totals[name] + added[name] for name in total.totals},
        {name: total.pairs[name] + _squared_differences(values[name]) for name in total.pairs},
    )


def _squared_differences(values: np.ndarray) -> np.ndarray:
    """The sum over B of the squared difference of any two rows of values [K, B]: [K, K]."""
    return np.square(values[:, None].astype(np.float64) - values).sum(-1).astype(np.result_type(values, np.int64))


def make_score(
    scorer: Scorer, size: int, batches: Sequence, criterion: Criterion = CRITERIA["acc"], begin: Begin = Loop,
    state: Any = None, images: int = 0,
) -> Score:  # fmt: skip
    """A `Score` that calls `score_masks` with these arguments, and puts the unmasked supernet first.

    It records `criterion` besides `RECORDED`.
    """
    criteria = criteria_with(criterion)

    def score(masks: np.ndarray) -> dict:
        every = np.concatenate([np.ones_like(masks[:1]), masks])
        sums = score_masks(scorer, every, size, batches, criteria, begin, state, images)
        count = int(sums.images)
        records = {c.record: c.recorded(sums.totals[c.record], count).tolist() for c in criteria}
        values = dict(sorted(records.items()))
        return {
            "images": count,
            "baseline": {name: each[0] for name, each in values.items()},
            **{name: each[1:] for name, each in values.items()},
            "paired": {name: pairs.tolist() for name, pairs in sums.pairs.items()},
        }

    return score

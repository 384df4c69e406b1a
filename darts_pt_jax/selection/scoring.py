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
from darts_pt_jax.selection.racing import Capital, Race

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
        raced: of a race only. `images` [K]: how many images each mask has seen, of how many (`of`). What is said of a mask
          is over these, of a pair over those that both have seen; `baseline` has the unmasked supernet's values on the
          images of each mask, {correct, loss, ...}, [K].
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


@flax.struct.dataclass
class RaceSums(Sums):
    """Sums of a race, in which masks leave; those of a mask are over the images seen by it, of a pair over those seen by both.

    Attributes:
      of: number of images of the full scoring, a scalar.
      seen: number of images, [K].
      unmasked: sums of each criterion of the first mask, over the images that each mask has seen, [K].
      running: bool [K], the masks that have not left; the first never leaves.
      capital: of the others.
    """

    of: np.ndarray
    seen: np.ndarray
    unmasked: dict[str, np.ndarray]
    running: np.ndarray
    capital: Capital

    @classmethod
    def begin(cls, masks: int, criteria: Sequence[Criterion]) -> "RaceSums":
        """Sums over no images, of masks that all run."""
        zero = Sums.zero(masks, criteria)
        unmasked = {name: np.zeros_like(values) for name, values in zero.totals.items()}
        return cls(
            **vars(zero), of=np.zeros((), int), seen=np.zeros(masks, int), unmasked=unmasked,
            running=np.ones(masks, bool), capital=Capital.start(masks - 1),
        )  # fmt: skip


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
    begin: Begin = Loop, state: Any = None, images: int = 0, race: Race | None = None, smaller: int | None = None,
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
      images: number of images in a batch.
      race: how masks leave; None: they stay. It counts the masks after the first.
      smaller: a smaller number of masks in a call, used as soon as so few are left; None: `size`.

    Returns:
      The sums; of a race, `RaceSums`.
    """
    running, calls = np.zeros(len(masks), bool), jnp.zeros(0)
    zero = RaceSums.begin(len(masks), criteria) if race else Sums.zero(len(masks), criteria)
    loop = begin("scoring", state, zero, len(batches))
    for i in loop:
        left = loop.total.running if race else np.ones(len(masks), bool)
        if (left != running).any():
            running, calls = left, _in_calls(masks[left], size, smaller or size)
            loop.images = calls.shape[0] * calls.shape[1] * images
        parts, unmasked = [], None
        for call in calls:
            sums, values, unmasked = scorer(call, batches[i], unmasked)
            parts.append((sums, values))
        sums, values = _joined(parts, running.sum())
        named = {c.record: each for c, each in zip(criteria, values, strict=True)}
        if race:
            loop.total = _raced(loop.total, sums, named, race, len(batches))
            if loop.total.running[1:].sum() < 2:
                loop.end()
        else:
            loop.total = _added(loop.total, sums, named)
    for name, values in loop.total.totals.items():
        if not np.isfinite(values).all():
            raise FloatingPointError(f"scoring: criterion {name} is not finite: look at it, or at the data")
    return loop.total


def _joined(parts: Sequence, count: int) -> Any:
    """Joins the results of all calls on a batch, of the first `count` masks."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *jax.device_get(parts))


def _in_calls(masks: np.ndarray, size: int, smaller: int) -> jax.Array:
    """Arranges masks [K, ...] into calls [calls, M, ...]: M is `smaller` if one such call takes all, else `size`."""
    size = smaller if len(masks) <= smaller else size
    calls = -(-len(masks) // size)
    return jnp.asarray(filled_up(masks, calls * size).reshape(calls, size, *masks.shape[1:]))


def _raced(total: RaceSums, sums: Metrics, values: Mapping[str, np.ndarray], race: Race, batches: int) -> RaceSums:
    """Adds a batch to the total of a race, from the masks that are running [K'], and lets others leave."""
    running, correct = total.running, values["correct"]
    places = np.flatnonzero(running)
    among = np.ix_(places, places)
    part = Sums(
        total.images,
        {name: each[running] for name, each in total.totals.items()},
        {name: each[among] for name, each in total.pairs.items()},
    )
    part = _added(part, sums, values)
    totals, pairs, unmasked = (jax.tree.map(np.copy, tree) for tree in (total.totals, total.pairs, total.unmasked))
    for name, each in part.totals.items():
        totals[name][running], pairs[name][among], unmasked[name][running] = each, part.pairs[name], each[0]
    batch_size = correct.shape[-1]
    everyone = np.zeros((len(running), batch_size), correct.dtype)  # whoever has left no longer counts
    everyone[running] = correct
    units = race.units(batches, batch_size)
    capital = total.capital.after(race.values(everyone[1:]), units)
    return RaceSums(
        part.images, totals, pairs, np.asarray(batches * batch_size), np.where(running, part.images, total.seen), unmasked,
        np.append(True, race.still_running(capital, running[1:], units)), capital,
    )  # fmt: skip


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
    state: Any = None, images: int = 0, race: Race | None = None, smaller: int | None = None,
) -> Score:  # fmt: skip
    """A `Score` that calls `score_masks` with these arguments, and puts the unmasked supernet first.

    It records `criterion` besides `RECORDED`. Only `acc` can be raced.
    """
    criteria = criteria_with(criterion)

    def score(masks: np.ndarray) -> dict:
        every = np.concatenate([np.ones_like(masks[:1]), masks])
        sums = score_masks(scorer, every, size, batches, criteria, begin, state, images, race, smaller)
        count, seen, raced = int(sums.images), sums.images, {}
        if isinstance(sums, RaceSums):
            seen = sums.seen
            unmasked = {c.record: c.recorded(sums.unmasked[c.record], seen)[1:].tolist() for c in criteria}
            raced = {"raced": {"of": int(sums.of), "images": seen[1:].tolist(), "baseline": unmasked}}
        records = {c.record: c.recorded(sums.totals[c.record], seen).tolist() for c in criteria}
        values = dict(sorted(records.items()))
        return {
            "images": count,
            **raced,
            "baseline": {name: each[0] for name, each in values.items()},
            **{name: each[1:] for name, each in values.items()},
            "paired": {name: pairs.tolist() for name, pairs in sums.pairs.items()},
        }

    return score

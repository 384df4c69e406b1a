"""Perturbation-based selection (paper, Algorithms 1 and 2): remove one thing, see what the supernet loses.

All removals of a decision are masks, evaluated by one jitted call on the same images. The choice follows from the
scores alone and can be made again from a record of them. Nothing here knows how the supernet computes: it is any
`Evaluate` that takes edge weights.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import architecture
from darts_pt_jax.architecture import Alphas, Decisions
from darts_pt_jax.metrics import Evaluate, Metrics
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.spaces import SearchSpace
from darts_pt_jax.supernet import EdgeWeights

CRITERIA = ("acc", "loss")
TOPOLOGIES = ("leave_one_out", "single_ranking")

Score = Callable[[np.ndarray], dict]
"""`score(masks [K, E, O])` gives `images`, the `baseline` {correct, loss} of the unmasked supernet, `correct` [K] and mean
`loss` [K] under each mask, and `paired` {correct, loss} [K + 1, K + 1], as plain numbers and lists.

`paired` compares every two of the unmasked supernet, which is first, and the masks on the same images: how many images
only one of the two gets right, and the sum over images of the squared difference of their losses. Both are sums of
squared differences, which is what a paired standard error needs (`noise.excess`)."""


@flax.struct.dataclass
class Sums:
    """Sums over images by mask: loss (float64) and correct predictions [K], images (scalar); pairs as in `Score` [K, K]."""

    loss: np.ndarray
    correct: np.ndarray
    images: np.ndarray
    pairs_correct: np.ndarray
    pairs_loss: np.ndarray

    @classmethod
    def zero(cls, masks: int) -> "Sums":
        """The sums over no image."""
        pairs = (masks, masks)
        return cls(np.zeros(masks), np.zeros(masks, int), np.zeros((), int), np.zeros(pairs, int), np.zeros(pairs))


def make_scorer(evaluate: Evaluate, kind: str):
    """A function that scores masks on one cell kind: `scorer(variables, edge_weights, masks, batch)`.

    Its arguments are those of `evaluate` and masks [M, E, O], which multiply the edge weights of `kind`. Returns
    `Metrics` twice: sums over the batch, with entries [M], and those of each image, [M, B]. Batch, augmentation and
    noise are shared by all masks, and what does not depend on `kind` (the cells before its first one) is computed
    once. The edge is in the masks' values, so one compilation serves all edges of a kind.
    """

    def scorer(variables, edge_weights: EdgeWeights, masks: jax.Array, batch) -> tuple[Metrics, Metrics]:
        def masked(mask):
            return evaluate(variables, {**edge_weights, kind: edge_weights[kind] * mask}, batch)

        return jax.vmap(masked)(masks)

    return scorer


def in_order(step, total, steps: int):
    """`total` after `step(i, total)` for i from 0 to `steps` - 1."""
    for i in range(steps):
        total = step(i, total)
    return total


def filled_up(masks: np.ndarray, count: int) -> np.ndarray:
    """`count` masks: those given, and copies of the last."""
    return np.concatenate([masks, np.repeat(masks[-1:], count - len(masks), 0)])


def score_masks(scorer, masks: np.ndarray, size: int, batches: Sequence, fold=in_order) -> Sums:
    """Scores masks [K, E, O] over many batches, on each in calls of `size` masks.

    All calls of a batch are one step, so that every two masks can be compared image by image.

    Args:
      scorer: `scorer(masks [M, E, O], batch)`: that of `make_scorer` with its other arguments bound.
      masks: what to score; the last call is filled up with copies of the last mask, whose results are dropped.
      size: M, masks of one call.
      batches: what to score on.
      fold: goes through the batches, as `in_order` does.
    """
    calls = -(-len(masks) // size)
    filled = jnp.asarray(filled_up(masks, calls * size).reshape(calls, size, *masks.shape[1:]))

    def step(i, total):
        parts = jax.device_get([scorer(call, batches[i]) for call in filled])
        sums, images = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(masks)], *parts)
        return Sums(
            total.loss + sums.loss, total.correct + sums.correct, total.images + sums.images[0],
            total.pairs_correct + _squared_differences(images.correct), total.pairs_loss + _squared_differences(images.loss),
        )  # fmt: skip

    return fold(step, Sums.zero(len(masks)), len(batches))


def _squared_differences(values: np.ndarray) -> np.ndarray:
    """Of values [K, B], the sum over B of the squared difference of every two rows: [K, K]."""
    return np.square(values[:, None].astype(np.float64) - values).sum(-1).astype(np.result_type(values, np.int64))


def make_score(scorer, size: int, batches: Sequence, fold=in_order) -> Score:
    """A `Score` by `score_masks`, whose arguments these are; the unmasked supernet goes first."""

    def score(masks: np.ndarray) -> dict:
        result = score_masks(scorer, np.concatenate([np.ones_like(masks[:1]), masks]), size, batches, fold)
        correct, loss = result.correct.tolist(), (result.loss / result.images).tolist()
        return {
            "images": int(result.images),
            "baseline": {"correct": correct[0], "loss": loss[0]},
            "correct": correct[1:],
            "loss": loss[1:],
            "paired": {"correct": result.pairs_correct.tolist(), "loss": result.pairs_loss.tolist()},
        }

    return score


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


def decide_operation(
    score: Score, space: SearchSpace, kind: str, edge: int, criterion: str = "acc", barred: Sequence[str] = ()
) -> dict:
    """Keeps, on one edge, the operation whose removal hurts most (paper, Algorithm 1); none of the `barred` ones.

    Returns:
      The decision as a record of plain values, for `Decisions.apply`.
    """
    candidates = space.cells[kind].edges[edge].candidates
    eligible = [i for i, name in enumerate(candidates) if name not in barred]
    scores = score(architecture.without_operations(space, kind, edge))
    choice, margin = most_harmful(scores["correct"], scores["loss"], criterion, eligible)
    return {
        "type": "operation", "kind": kind, "edge": edge, "candidates": candidates, "eligible": eligible,
        "criterion": criterion, **scores, "choice": candidates[choice], "choice_index": choice, "margin": margin,
    }  # fmt: skip


def decide_topology(
    score: Score, space: SearchSpace, kind: str, state: int, criterion: str = "acc", topology: str = "leave_one_out"
) -> dict:
    """Keeps, at the node that is `state`, the inputs whose removal hurts most (paper, Algorithm 2).

    "leave_one_out" scores the remaining edges anew before each elimination (`score` may draw new data at every call);
    eliminated edges stand at full weight in later passes. "single_ranking" scores all edges once.

    Returns:
      The decision as a record of plain values, for `Decisions.apply`.
    """
    graph = space.cells[kind]
    remaining, passes, scores = list(graph.incoming(state)), [], None
    while len(remaining) > space.inputs_per_node:
        if scores is None or topology == "leave_one_out":
            scores = score(architecture.without_edges(space, kind, remaining))
        removed, margin = least_harmful(scores["correct"], scores["loss"], criterion)
        passes.append({"edges": list(remaining), **scores, "removed": remaining.pop(removed), "margin": margin})
        scores = _without(scores, removed)
    return {
        "type": "topology", "kind": kind, "node": state - graph.inputs, "criterion": criterion, "topology": topology,
        "passes": passes, "edges": passes[0]["edges"], "choice": remaining, "margin": min(p["margin"] for p in passes),
    }  # fmt: skip


def _without(scores: dict, position: int) -> dict:
    """Scores of a `Score`, but of one mask."""

    def rest(values: list, at: int = position) -> list:
        return values[:at] + values[at + 1 :]

    less = {name: rest(values) for name, values in scores.items() if isinstance(values, list)}
    if "paired" in scores:
        less["paired"] = {
            name: [rest(row, position + 1) for row in rest(rows, position + 1)]
            for name, rows in scores["paired"].items()
        }
    return {**scores, **less}


def decide(
    score: Score,
    space: SearchSpace,
    target: Target,
    criterion: str = "acc",
    topology: str = "leave_one_out",
    barred: Sequence[str] = (),
) -> dict:
    """`decide_operation` or `decide_topology`, as the target asks."""
    if target.type == "operation":
        return decide_operation(score, space, target.kind, target.number, criterion, barred)
    return decide_topology(score, space, target.kind, target.number, criterion, topology)


def baseline_accuracy(record: Mapping) -> float | None:
    """Accuracy in percent of the unmasked supernet when a recorded decision was taken; None without scores."""
    scores = record["passes"][0] if "passes" in record else record
    return 100 * scores["baseline"]["correct"] / scores["images"] if "baseline" in scores else None


def select(
    space: SearchSpace,
    points: Iterable[Sequence[Target]],
    evaluate: Evaluate,
    variables: Any,
    alphas: Alphas,
    batches: Sequence,
    tune: Callable | None = None,
    criterion: str = "acc",
    topology: str = "leave_one_out",
) -> tuple[Decisions, list[dict], Any]:
    """Selects an architecture from any supernet: the whole of DARTS-PT in one call, without files.

    Args:
      space: the cells whose edge weights the supernet takes.
      points: what is decided, and between which decisions the supernet is tuned (`schedule.decision_points`).
      evaluate: the supernet and its loss on one batch.
      variables: its first argument, any pytree.
      alphas: architecture parameters [E, O] by cell kind; zeros weigh all candidates equally.
      batches: validation batches, any pytrees that `evaluate` takes; all of one shape.
      tune: `tune(variables, alphas, decisions)` gives the variables and alphas after some training; called after every
        point. None does not tune.
      criterion, topology: as `decide_operation` and `decide_topology` take them.

    Returns:
      The decisions, a record of each, and the variables after the last tuning.
    """
    decisions, records = architecture.undecided(space), []
    scorers = {kind: jax.jit(make_scorer(evaluate, kind)) for kind in space.cells}
    for targets in points:
        for target in targets:
            weights = architecture.edge_weights(space, alphas, decisions)
            scorer = functools.partial(scorers[target.kind], variables, weights)
            score = make_score(scorer, space.cells[target.kind].width + 1, batches)
            records.append(decide(score, space, target, criterion, topology))
            decisions = decisions.apply(records[-1])
        if tune:
            variables, alphas = tune(variables, alphas, decisions)
    return decisions, records, variables

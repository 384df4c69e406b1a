"""Perturbation-based selection (paper, Algorithms 1 and 2): remove one part at a time, see what the supernet loses."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax

from darts_pt_jax import architecture, ops
from darts_pt_jax.architecture import Alphas, Decisions
from darts_pt_jax.metrics import Evaluate
from darts_pt_jax.samplers.base import Sampler
from darts_pt_jax.selection import direct
from darts_pt_jax.selection.budgets import Budget
from darts_pt_jax.selection.criteria import CRITERIA, Criterion
from darts_pt_jax.selection.racing import finalists
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.selection.scoring import Score, criteria_with, make_score, make_scorer
from darts_pt_jax.selection.slopes import GetSlopes, Slopes, make_slopes, sum_slopes
from darts_pt_jax.selection.strategies import (
    LEAVE_ONE_OUT,
    TOPOLOGIES,
    Strategy,
    Topology,
    least_harmful,
    without_edges,
)
from darts_pt_jax.selection.ties import FIRST, TieRule, settled
from darts_pt_jax.spaces import SearchSpace

ACCURACY, ONE_BY_ONE = CRITERIA["acc"], TOPOLOGIES["leave_one_out"]


def decide_operation(
    score: Score,
    space: SearchSpace,
    kind: str,
    edge: int,
    criterion: Criterion = ACCURACY,
    barred: Sequence[str] = (),
    strategy: Strategy = LEAVE_ONE_OUT,
    ties: TieRule = FIRST,
    get_slopes: GetSlopes | None = None,
    ruled_out: Sequence[int] = (),
) -> dict:
    """Chooses the operation of an edge, but never a `barred` one; by default that whose removal hurts most (Algorithm 1).

    It does not choose the positions `ruled_out` by a limit either, and records what it would choose without the limit.

    Returns:
      The decision, as a record of plain values for `Decisions.apply`.

    Raises:
      ValueError: the strategy has no masks, and `get_slopes` is not given.
    """
    if strategy.masks is None:
        if get_slopes is None:
            raise ValueError(f"strategy {strategy.name} has no masks: give get_slopes")
        return _by_slopes(get_slopes(), space, kind, edge, barred, strategy, ruled_out)
    stride, candidates = space.cells[kind].edges[edge].stride, space.cells[kind].edges[edge].candidates

    def costs() -> list[int]:
        return [ops.multiply_adds(name or "none", stride) for name in candidates]

    allowed = [i for i, name in enumerate(candidates) if name not in barred]
    eligible = [i for i in allowed if i not in ruled_out]
    scores = score(strategy.masks(space, kind, edge))
    settle = functools.partial(settled, ties, strategy.choose, criterion.harms(scores), scores=scores, costs=costs)
    choice, margin, tie = settle(eligible=finalists(scores, eligible))
    named = ({} if strategy is LEAVE_ONE_OUT else {"strategy": strategy.name}) | tie
    if ruled_out:
        freely, *_ = settle(eligible=allowed)
        named |= {"ruled_out": list(ruled_out), "without_limit": candidates[freely]}
    return {
        "type": "operation", "kind": kind, "edge": edge, "candidates": candidates, "eligible": eligible,
        "criterion": criterion.name, **named, **scores, "choice": candidates[choice], "choice_index": choice,
        "margin": margin,
    }  # fmt: skip


def _by_slopes(
    slopes: Slopes, space: SearchSpace, kind: str, edge: int, barred: Sequence[str], strategy: Strategy,
    ruled_out: Sequence[int],
) -> dict:  # fmt: skip
    """Keeps the operation of an edge with the largest |w dL/dw|; values and margin are in units of the mean loss."""
    importance = slopes.importance()
    record = direct.operation_record(
        space, kind, edge, importance, barred=barred, name="first_order", ruled_out=ruled_out
    )
    return {**record, "criterion": "loss", "strategy": strategy.name, "images": int(slopes.images)}


def decide_topology(
    score: Score,
    space: SearchSpace,
    kind: str,
    state: int,
    criterion: Criterion = ACCURACY,
    topology: Topology = ONE_BY_ONE,
    ties: TieRule = FIRST,
    operations: Sequence[int] = (),
    ruled_out: Sequence[Sequence[int]] = (),
) -> dict:
    """Keeps the inputs of node `state` whose removal hurts most (paper, Algorithm 2).

    `score` may draw new data at every call. `operations` are the chosen candidates of all edges of the kind, [E], which
    the rule multiply_adds asks for. A limit has `ruled_out` these sets of inputs; every pass records the positions that it
    may not drop because of it, and what it would drop without the limit.

    Returns:
      The decision, as a record of plain values for `Decisions.apply`.
    """
    graph = space.cells[kind]
    remaining, passes, scores = list(graph.incoming(state)), [], None
    possible = [set(keep) for keep in space.input_sets(remaining) if list(keep) not in ruled_out]

    def costs() -> list[int]:
        edges = [(operations[e], graph.edges[e]) for e in remaining]
        return [-ops.multiply_adds(edge.candidates[o] or "none", edge.stride) for o, edge in edges]

    while space.inputs_per_node is not None and len(remaining) > space.inputs_per_node:
        if scores is None or topology.rescores:
            scores = score(without_edges(space, kind, remaining))
        every, limited = range(len(remaining)), {}
        settle = functools.partial(settled, ties, least_harmful, criterion.harms(scores), scores=scores, costs=costs)
        needed = [i for i in every if not any(keep <= {*remaining} - {remaining[i]} for keep in possible)]
        if needed:
            freely, *_ = settle(eligible=every)
            limited = {"ruled_out": needed, "without_limit": remaining[freely]}
        removed, margin, tie = settle(eligible=finalists({**scores, **limited}, every))
        taken = {"removed": remaining[removed], "margin": margin, **tie, **limited}
        passes.append({"edges": list(remaining), **scores, **taken})
        del remaining[removed]
        scores = _without(scores, removed)
    return {
        "type": "topology", "kind": kind, "node": state - graph.inputs, "criterion": criterion.name,
        "topology": topology.name, "passes": passes, "edges": passes[0]["edges"], "choice": remaining,
        "margin": min(p["margin"] for p in passes),
    }  # fmt: skip


def _without(scores: dict, position: int) -> dict:
    """The result of a `Score`, without the mask at `position`."""

    def without(values: list, at: int = position) -> list:
        return values[:at] + values[at + 1 :]

    remaining: dict[str, Any] = {name: without(values) for name, values in scores.items() if isinstance(values, list)}
    if "paired" in scores:
        remaining["paired"] = {
            name: [without(row, position + 1) for row in without(rows, position + 1)]
            for name, rows in scores["paired"].items()
        }
    return {**scores, **remaining}


def decide(
    score: Score,
    space: SearchSpace,
    target: Target,
    criterion: Criterion = ACCURACY,
    topology: Topology = ONE_BY_ONE,
    barred: Sequence[str] = (),
    strategy: Strategy = LEAVE_ONE_OUT,
    ties: TieRule = FIRST,
    decisions: Decisions | None = None,
    get_slopes: GetSlopes | None = None,
    ruled_out: Sequence = (),
) -> dict:
    """`decide_operation` or `decide_topology`, according to the target; `decisions` are those taken so far."""
    kind, number = target.kind, target.number
    if target.type == "operation":
        return decide_operation(score, space, kind, number, criterion, barred, strategy, ties, get_slopes, ruled_out)
    operations = jax.device_get(decisions.operations[kind]).tolist() if decisions else ()
    return decide_topology(score, space, kind, number, criterion, topology, ties, operations, ruled_out)


def ruled_out(budget: Budget | None, decisions: Decisions, target: Target) -> list:
    """What a budget rules out after `decisions`, as `decide` takes it: positions of candidates, or sets of inputs."""
    if budget is None:
        return []
    find = budget.ruled_out if target.type == "operation" else budget.ruled_out_inputs
    return find(*decisions.on_host(), target.kind, target.number)


def baseline_accuracy(record: Mapping) -> float | None:
    """Accuracy of the unmasked supernet, in percent, at a recorded decision; None if the record has no scores."""
    scores = record["passes"][0] if "passes" in record else record
    return 100 * scores["baseline"]["correct"] / scores["images"] if "baseline" in scores else None


class Tune(Protocol):
    """Trains a supernet between decisions."""

    def __call__(self, variables: Any, alphas: Alphas, decisions: Decisions) -> tuple[Any, Alphas]:
        """Returns the variables and alphas after some training."""


def select(
    space: SearchSpace,
    points: Iterable[Sequence[Target]],
    evaluate: Evaluate,
    variables: Any,
    alphas: Alphas,
    batches: Sequence,
    tune: Tune | None = None,
    criterion: Criterion = ACCURACY,
    topology: Topology = ONE_BY_ONE,
    strategy: Strategy = LEAVE_ONE_OUT,
    sampler: Sampler = Sampler(),  # noqa: B008
    ties: TieRule = FIRST,
    budget: Budget | None = None,
) -> tuple[Decisions, list[dict], Any]:
    """Selects an architecture from any supernet: all of DARTS-PT in one call, without files.

    Args:
      space: the cells whose edge weights the supernet takes.
      points: the decisions, grouped by decision point; tuning follows each point (`schedule.decision_points`).
      evaluate: evaluates the supernet on a batch: `evaluate(variables, edge_weights, batch)` returns logits [B, classes]
        and labels [B].
      variables: the first argument of `evaluate`, any pytree.
      alphas: architecture parameters [E, O] by cell kind; zeros weigh all candidates equally.
      batches: validation batches, any pytrees that `evaluate` takes; all of one shape.
      tune: called after every point; None: no tuning.
      criterion, topology, strategy: rows of `CRITERIA`, `TOPOLOGIES` and `STRATEGIES`.
      sampler: makes edge weights from the alphas; scoring uses its mean.
      ties: a row of `TIES`, which decides between removals that score alike.
      budget: limits on the discrete network; None: none.

    Returns:
      The decisions, a record of each, and the variables after the last tuning.
    """
    decisions, records = architecture.undecided(space), []
    scorers = {kind: jax.jit(make_scorer(evaluate, kind, criteria_with(criterion))) for kind in space.cells}
    slopes = {kind: jax.jit(make_slopes(evaluate, kind)) for kind in space.cells}
    for targets in points:
        for target in targets:
            weights = sampler.weights(space, alphas, decisions)
            scorer = functools.partial(scorers[target.kind], variables, weights)
            score = make_score(scorer, space.cells[target.kind].width + 1, batches, criterion)
            of_batch = functools.partial(slopes[target.kind], variables, weights)
            get_slopes = functools.partial(sum_slopes, of_batch, weights[target.kind].shape, batches)
            limited = ruled_out(budget, decisions, target)
            settings = criterion, topology, (), strategy, ties, decisions, get_slopes, limited
            records.append(decide(score, space, target, *settings))
            decisions = decisions.apply(records[-1])
        if tune:
            variables, alphas = tune(variables, alphas, decisions)
    return decisions, records, variables

"""The stage `select`: an architecture is read off the trained supernet, one unit of work per decision or tuning epoch."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from darts_pt_jax import architecture
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.selection import direct, perturbation, schedule, sgas
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.spaces import SPACES, SearchSpace
from experiments.config.rules import SGAS, seed_of
from experiments.engine.run import Run, Unit
from experiments.reporting.lines import end_of_search, genotype_name
from experiments.stages.search import mixtures, regime
from experiments.training.loops import Diverged
from experiments.training.supernet import Regime


def units(config: ConfigDict) -> list[Unit]:
    """The units of `select.orders` selections, one after the other, each from the supernet as the search left it."""
    adopted = [Unit("select", "adopt", "", adopt)] if config.init_from else []
    return adopted + [unit for order in range(config.select.orders) for unit in _selection(config, order)]


def _selection(config: ConfigDict, order: int) -> list[Unit]:
    """A beginning, decisions with tuning between them, an end."""
    select = config.select
    of_order = f"of order {order + 1}" if select.orders > 1 else ""
    start = Unit("select", "begin", of_order, functools.partial(begin, order=order))
    end = Unit("select", "genotype", of_order, functools.partial(write_genotype, order=order))
    if select.method in direct.SELECTORS:
        return [start, Unit("select", select.method, of_order, functools.partial(derive, order=order)), end]
    points, epochs = _points(config, order)
    decisions = sum(map(len, points))

    def count(done: int, of: int) -> str:
        return f"{done}/{of} {of_order}".strip()

    middle, decided, tuned = [], 0, 0
    for point, targets in enumerate(points, 1):
        for target in targets:
            do = functools.partial(decide, order=order, number=decided, target=target)
            decided += 1
            middle.append(Unit("select", "decision", count(decided, decisions), do, "select.mask_batch"))
        if select.restrict_every and point % select.restrict_every == 0 and point < len(points):
            middle.append(Unit("select", "restriction", count(point, len(points)), Run.restrict))
        for _ in range(min(select.interval, epochs - tuned)):
            last = tuned + 1 == epochs
            do = functools.partial(tune, order=order, number=tuned, decided=decided, point=point, last=last)
            tuned += 1
            middle.append(Unit("select", "tuning epoch", count(tuned, epochs), do))
    return [start, *middle, end]


def _points(config: ConfigDict, order: int) -> tuple[list[list[Target]], int]:
    """Decisions by the points at which they are taken, and how many epochs of tuning there are in all."""
    select, space = config.select, SPACES[config.space]
    if select.method in SGAS:
        points = sgas.decision_points(space)
        return points, select.interval * len(points)
    rng = np.random.RandomState(seed_of(config, "select") + order)
    points = schedule.decision_points(space, select.order, select.pairing, rng)
    return points, select.interval * (len(points) - 1) + min(
        select.interval, 1
    )  # one follows the last, as in the reference


def adopt(run: Run, state: SearchState) -> SearchState:
    """Takes supernet and search metrics over from the run that `init_from` names."""
    state = run.source.state(run.training.abstract_state())
    for line in run.source.metrics():
        run.record_metrics(**line)
    run.snapshot(run.source.epoch, state)
    run.say({"from": run.config.init_from, "epoch": run.source.epoch})
    return state


def begin(run: Run, state: SearchState, order: int) -> SearchState:
    """Forgets the weights' momentum: tuning starts with a fresh optimiser, as in the reference code; SGAS goes on.

    Every order after the first begins again with the supernet of the search.
    """
    state = run.searched() if order else state
    if run.config.select.method in SGAS:
        return state
    return state.replace(weight_optimizer=run.training.weight_optimizer.init(state.params))


def tune(run: Run, state: SearchState, order: int, number: int, decided: int, point: int, last: bool) -> SearchState:
    """Epoch `number` (from 0) of tuning, after decision point `point` (from 1)."""
    now = _regime(run, number, point)
    key = jax.random.fold_in(run.key("select", "tune", order), number)
    state, metrics = run.epoch(state, key, now, number, last)
    learned = run.config.search.alpha == "learned"
    run.record_metrics(
        stage="select", order=order + 1, tuning_epoch=number + 1, decisions=decided, learning_rate=now.learning_rate,
        **metrics, **({"edge_weights": mixtures(run, state)} if learned else {}),
    )  # fmt: skip
    run.say(metrics)
    return state


def _regime(run: Run, number: int, point: int) -> Regime:
    """Of a tuning epoch: shuffled passes at a constant, lower learning rate; with SGAS, the search's own schedule."""
    search, select = run.config.search, run.config.select
    if select.method not in SGAS:
        return Regime(search.learning_rate * select.tune_lr_factor, "epoch", search.batch_size, search.epsilon)
    now = regime(run.config, end_of_search(run.metrics.read())["epoch"] + number)
    return dataclasses.replace(now, batch_size=search.batch_size + point * run.config.sgas.batch_increase)


def decide(run: Run, state: SearchState, order: int, number: int, target: Target) -> SearchState:
    """Takes one decision, records it, and fixes it in the state."""
    by = {"perturbation": _by_perturbation, "magnitude_tuned": _by_magnitude}.get(run.config.select.method, _greedily)
    decision = by(run, state, order, number, target)
    run.record_decision(order=order + 1, decision=number + 1, **decision)
    if target.type == "operation":
        chosen = f"edge {decision['edge']} -> {decision['choice']}"
    else:
        chosen = f"node {decision['node']} keeps edges {', '.join(map(str, decision['choice']))}"
    accuracy = perturbation.baseline_accuracy(decision)
    run.say(({} if accuracy is None else {"baseline": accuracy}) | {target.kind: chosen})
    return state.replace(decisions=state.decisions.apply(decision))


def _by_perturbation(
    run: Run, state: SearchState, order: int, number: int, target: Target, barred: Sequence[str] = ()
) -> dict:
    space, select = run.training.space, run.config.select
    key = jax.random.fold_in(run.key("select", "score", order), number)
    passes = itertools.count()

    def score(masks):
        of_pass = key if target.type == "operation" else jax.random.fold_in(key, next(passes))
        return _score(run, state, target.kind, of_pass, masks)

    barred = barred if select.none_is_candidate else ("none",)
    return perturbation.decide(score, space, target, select.criterion, select.topology, barred)


def _score(run: Run, state: SearchState, kind: str, key: jax.Array, masks: np.ndarray) -> dict:
    """Scores `masks` [K, E, O] on images, crops and noise that `key` draws."""
    training, select = run.training, run.config.select
    batch_size = run.config.search.batch_size
    steps = (select.images or training.valid.size) // batch_size
    index_key, batch_key = jax.random.split(key)
    indices = training.indices(index_key, training.valid, "epoch", steps)
    batches = [(training.valid, *b) for b in zip(indices, jax.random.split(batch_key, steps), strict=True)]
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    size = training.masks(kind)
    calls = -(-(len(masks) + 1) // size)
    scorer = functools.partial(run.training.scorer(kind), state.variables, weights)

    def fold(step, total, steps):
        keep = lambda i, state, total: (state, step(i, total))  # noqa: E731
        return run.fold("scoring", keep, state, total, steps, calls * size * batch_size)[1]

    try:
        return perturbation.make_score(scorer, size, batches, fold)(masks)
    except Diverged as error:
        number = np.argmin(np.isfinite(error.total.loss))
        removed = "nothing" if number == 0 else _zeros(training.space, kind, masks[number - 1])
        raise FloatingPointError(f"scoring without {removed}: the loss is not finite: look at the data") from error


def _zeros(space: SearchSpace, kind: str, mask: np.ndarray) -> str:
    """What a mask [E, O] removes."""
    edge, candidate = np.argwhere(mask == 0)[0]
    names = space.cells[kind].edges[edge].candidates
    return f"{kind} edge {edge}" if not mask[edge, : len(names)].any() else f"{names[candidate]} of {kind} edge {edge}"


def _by_magnitude(run: Run, state: SearchState, order: int, number: int, target: Target) -> dict:
    """DARTS-PT's loop with magnitude's choices, "DARTS+PT-Mag" (paper, section 6.2).

    A node's inputs are ranked by the weight that their operation had when it was chosen: alphas of decided edges rest.
    """
    space, kind = run.training.space, target.kind
    weights = jax.device_get(architecture.mixtures(space, state.alphas))[kind]
    if target.type == "operation":
        return direct.operation_record(space, kind, target.number, weights)
    chosen = jax.device_get(state.decisions.operations[kind])
    strength = np.take_along_axis(weights, chosen[:, None], 1)[:, 0]
    keep = direct.strongest(space, space.cells[kind].incoming(target.number), strength)
    return direct.topology_record(space, kind, target.number, strength, keep)


def _greedily(run: Run, state: SearchState, order: int, number: int, target: Target) -> dict:
    """SGAS: the edge by its criterion; its operation by the largest alpha, or by perturbation ("SGAS+PT", paper, A.1.3)."""
    space, kind, config = run.training.space, target.kind, run.config
    weights = jax.device_get(architecture.mixtures(space, state.alphas))[kind]
    lines = run.metrics.read()
    searched = end_of_search(lines)["epoch"]
    epochs = [m for m in lines if m["stage"] == "select" or m["epoch"] <= searched]
    history = [architecture.from_lists(m["edge_weights"], space)[kind] for m in epochs[:-1]]
    by = sgas.criterion(space.cells[kind], weights, history, config.sgas.criterion)
    edge = sgas.next_edge(state.decisions, kind, by["score"])
    if config.select.method == "sgas":
        decision = direct.operation_record(space, kind, edge, weights, barred=("none",))
    else:
        decision = _by_perturbation(run, state, order, number, Target("operation", kind, edge), ("none",))
    pruned = sgas.pruned(space, state.decisions.apply(decision), kind, edge)
    return {**decision, **{name: values.tolist() for name, values in by.items()}, "pruned": pruned}


def derive(run: Run, state: SearchState, order: int) -> SearchState:
    """Takes all decisions at once by a selector that needs no images (`direct.SELECTORS`).

    The records hold what magnitude goes by; a margin is by how much the choice exceeds the best of the rest.
    """
    space, method = run.training.space, run.config.select.method
    weights = jax.device_get(architecture.edge_weights(space, state.alphas, state.decisions))
    rng = np.random.RandomState(seed_of(run.config, "select") + order)
    decisions = direct.SELECTORS[method](space, weights, rng)
    for number, record in enumerate(direct.records(space, weights, decisions)):
        run.record_decision(order=order + 1, decision=number + 1, method=method, **record)
    return state.replace(decisions=decisions)


def write_genotype(run: Run, state: SearchState, order: int) -> SearchState:
    """Writes the final architecture; validates the supernet that the decisions left, unless the last tuning did."""
    lines = [m for m in run.metrics.read() if m.get("order") == order + 1]
    if not lines:
        metrics = run.validate(state)
        decisions = sum(d["order"] == order + 1 for d in run.decisions.read())
        run.record_metrics(stage="select", order=order + 1, tuning_epoch=0, decisions=decisions, **metrics)
    genotype = state.decisions.genotype(run.training.space)
    name = genotype_name(order)
    run.write(f"{name}.json", genotype.to_json() + "\n")
    run.write(f"{name}.txt", genotype.text(run.training.space.notation) + "\n")
    return state

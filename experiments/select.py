"""The stage `select`: an architecture is read off the trained supernet, one unit of work per decision or tuning epoch."""

import functools
import itertools

import jax
import numpy as np

from darts_pt_jax import architecture
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.selection import direct, perturbation
from darts_pt_jax.selection.schedule import Target, decision_points
from darts_pt_jax.spaces import SPACES
from experiments.rules import seed_of
from experiments.run import Run, Unit


def units(config) -> list[Unit]:
    """The units of `select.orders` selections, one after the other, each from the supernet as the search left it."""
    adopted = [Unit("select", "adopt", "", adopt)] if config.init_from else []
    return adopted + [unit for order in range(config.select.orders) for unit in _selection(config, order)]


def _selection(config, order: int) -> list[Unit]:
    """A beginning, decisions with tuning between them, an end."""
    select, space = config.select, SPACES[config.space]
    of_order = f"of order {order + 1}" if select.orders > 1 else ""
    start = Unit("select", "begin", of_order, functools.partial(begin, order=order))
    end = Unit("select", "genotype", of_order, functools.partial(write_genotype, order=order))
    if select.method in direct.SELECTORS:
        return [start, Unit("select", select.method, of_order, functools.partial(derive, order=order)), end]
    rng = np.random.RandomState(seed_of(config, "select") + order)
    points = decision_points(space, select.order, select.pairing, rng)
    decisions = sum(map(len, points))
    epochs = select.interval * (len(points) - 1) + min(select.interval, 1)  # one follows the last, as in the reference

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
            do = functools.partial(tune, order=order, number=tuned, decided=decided, last=last)
            tuned += 1
            middle.append(Unit("select", "tuning epoch", count(tuned, epochs), do))
    return [start, *middle, end]


def adopt(run: Run, state: SearchState) -> SearchState:
    """Takes supernet and search metrics over from the run that `init_from` names."""
    state = run.source.state(run.training.abstract_state())
    for line in run.source.metrics():
        run.record_metrics(**line)
    run.snapshot(run.source.epoch, state)
    run.say({"from": run.config.init_from, "epoch": run.source.epoch})
    return state


def begin(run: Run, state: SearchState, order: int) -> SearchState:
    """Forgets the weights' momentum: tuning starts with a fresh optimiser, as in the reference code.

    Every order after the first begins again with the supernet of the search.
    """
    state = run.searched() if order else state
    return state.replace(weight_optimizer=run.training.weight_optimizer.init(state.params))


def tune(run: Run, state: SearchState, order: int, number: int, decided: int, last: bool) -> SearchState:
    """One epoch of tuning: a shuffled pass over the training half at a constant, lower learning rate."""
    learning_rate = run.config.search.learning_rate * run.config.select.tune_lr_factor
    key = jax.random.fold_in(run.key("select", "tune", order), number)
    state, metrics = run.epoch(state, key, learning_rate, "epoch", number, last)
    run.record_metrics(
        stage="select", order=order + 1, tuning_epoch=number + 1, decisions=decided, learning_rate=learning_rate,
        **metrics,
    )  # fmt: skip
    run.say(metrics)
    return state


def decide(run: Run, state: SearchState, order: int, number: int, target: Target) -> SearchState:
    """Takes one decision, records it, and fixes it in the state."""
    by = {"perturbation": _by_perturbation, "magnitude_tuned": _by_magnitude}[run.config.select.method]
    decision = by(run, state, order, number, target)
    run.record_decision(order=order + 1, decision=number + 1, **decision)
    if target.type == "operation":
        chosen = f"edge {decision['edge']} -> {decision['choice']}"
    else:
        chosen = f"node {decision['node']} keeps edges {', '.join(map(str, decision['choice']))}"
    accuracy = perturbation.baseline_accuracy(decision)
    run.say(({} if accuracy is None else {"baseline": accuracy}) | {target.kind: chosen})
    return state.replace(decisions=state.decisions.apply(decision))


def _by_perturbation(run: Run, state: SearchState, order: int, number: int, target: Target) -> dict:
    space, select = run.training.space, run.config.select
    key = jax.random.fold_in(run.key("select", "score", order), number)
    passes = itertools.count()

    def score(masks):
        of_pass = key if target.type == "operation" else jax.random.fold_in(key, next(passes))
        return _score(run, state, target.kind, of_pass, masks)

    barred = () if select.none_is_candidate else ("none",)
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
    scorer = functools.partial(run.training.scorer(kind), state.variables, weights)

    def fold(step, total, steps):
        keep = lambda i, state, total: (state, step(i, total))  # noqa: E731
        return run.fold("scoring", keep, state, total, steps, size * batch_size)[1]

    return perturbation.make_score(scorer, size, batches, fold)(masks)


def _by_magnitude(run: Run, state: SearchState, order: int, number: int, target: Target) -> dict:
    """DARTS-PT's loop with magnitude's choices, "DARTS+PT-Mag" (paper, section 6.2).

    A node's inputs are ranked by the weight that their operation had when it was chosen.
    """
    space = run.training.space
    if target.type == "operation":
        weights = jax.device_get(architecture.edge_weights(space, state.alphas, state.decisions))[target.kind]
        chosen = int(direct.eligible_weights(space, target.kind, weights)[target.number].argmax())
        return direct.operation_record(space, target.kind, target.number, weights, chosen)
    strength = np.zeros(len(space.cells[target.kind].edges))
    for d in run.decisions.read():
        if (d["order"], d["type"], d["kind"]) == (order + 1, "operation", target.kind):
            strength[d["edge"]] = d["edge_weights"][d["choice_index"]]
    edges = space.cells[target.kind].incoming(target.number)
    return direct.topology_record(space, target.kind, target.number, strength, direct.strongest(space, edges, strength))


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
    """Writes the final architecture."""
    genotype = state.decisions.genotype(run.training.space)
    name = genotype_name(order)
    run.write(f"{name}.json", genotype.to_json() + "\n")
    run.write(f"{name}.txt", genotype.text(run.training.space.notation) + "\n")
    return state


def genotype_name(order: int) -> str:
    """What the files of an order's architecture are called, without suffix."""
    return "genotype" if order == 0 else f"genotype_order{order + 1}"

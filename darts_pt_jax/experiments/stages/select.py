"""The stage `select`: selects an architecture from the trained supernet, one unit for each decision or tuning epoch."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from darts_pt_jax import architecture
from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.experiments.config.schema import Config, seed_of
from darts_pt_jax.experiments.engine.run import Run
from darts_pt_jax.experiments.engine.units import Unit
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting import cautions
from darts_pt_jax.experiments.reporting.lines import end_of_search, genotype_name
from darts_pt_jax.experiments.stages.search import mixtures, regime
from darts_pt_jax.experiments.training.loops import Diverged
from darts_pt_jax.experiments.training.supernet import Regime
from darts_pt_jax.genotype import genotype_of
from darts_pt_jax.selection import (
    alternatives,
    certainty,
    direct,
    fisher,
    perturbation,
    schedule,
    scoring,
    sgas,
    shapley,
    slopes,
)
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.direct import Choice
from darts_pt_jax.selection.methods import METHODS, Method
from darts_pt_jax.selection.racing import Race
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.selection.strategies import STRATEGIES, TOPOLOGIES, without_edges
from darts_pt_jax.selection.ties import TIES
from darts_pt_jax.spaces import SPACES, SearchSpace, from_lists


def units(config: Config) -> list[Unit]:
    """The units of `select.orders` selections, one after the other; each starts from the supernet of the search."""
    adopted = [Unit("select", "adopt", "", adopt, brief=True)] if config.init_from else []
    return adopted + [unit for order in range(config.select.orders) for unit in _selection(config, order)]


def _selection(config: Config, order: int) -> list[Unit]:
    """The units of one selection: begin, decisions with tuning between them, genotype."""
    select = config.select
    suffix = f"of order {order + 1}" if select.orders > 1 else ""
    start = Unit("select", "begin", suffix, functools.partial(begin, order=order), brief=True)
    end = Unit("select", "genotype", suffix, functools.partial(write_genotype, order=order), brief=True)
    if METHODS[select.method].selector:
        _check_measured(METHODS[select.method])
        decide_all = functools.partial(decide_at_once, order=order)
        brief = not METHODS[select.method].values
        return [start, Unit("select", select.method, suffix, decide_all, brief=brief), end]
    points, epochs = _points(config, order)
    decisions = sum(map(len, points))

    def count(done: int, total: int) -> str:
        return f"{done}/{total} {suffix}".strip()

    middle, decided, tuned = [], 0, 0
    for point, targets in enumerate(points, 1):
        for target in targets:
            do = functools.partial(decide, order=order, number=decided, target=target, point=point)
            decided += 1
            middle.append(Unit("select", "decision", count(decided, decisions), do, "select.mask_batch"))
        if select.restrict_every and point % select.restrict_every == 0 and point < len(points):
            middle.append(Unit("select", "restriction", count(point, len(points)), Run.restrict, brief=True))
        for _ in range(min(select.interval, epochs - tuned)):
            last = tuned + 1 == epochs
            do = functools.partial(tune, order=order, number=tuned, point=point, last=last)
            tuned += 1
            middle.append(Unit("select", "tuning epoch", count(tuned, epochs), do))
    return [start, *middle, end]


def _check_measured(method: Method):
    """Refuses a plugin's method whose values nothing measures or names."""
    for name, table in {"selection.direct.VALUES": direct.VALUES, "stages.select.MEASURED": MEASURED}.items():
        if method.values and method.values not in table:
            raise ConfigError(
                f"select.method={method.name!r} decides by the values {method.values!r}, which are no row of {name}: add "
                "it where the method is defined"
            )


def _points(config: Config, order: int) -> tuple[list[list[Target]], int]:
    """The decisions, grouped by decision point, and the total number of tuning epochs."""
    select, space = config.select, SPACES[config.space]
    if METHODS[select.method].greedy:
        points = sgas.decision_points(space)
        return points, select.interval * len(points)
    rng = np.random.RandomState(seed_of(config, "select") + order)
    known = "fixed" if select.order in schedule.MEASURED else select.order
    points = schedule.decision_points(space, known, select.pairing, rng)
    last = min(select.interval, 1)  # one epoch after the last decision, as in the reference code
    return points, select.interval * (len(points) - 1) + last


def adopt(run: Run, state: SearchState) -> SearchState:
    """Takes over supernet and search metrics from the run that `init_from` names."""
    state = run.source.state(run.training.abstract_state())
    for line in run.source.metrics():
        run.record_metrics(**line)
    run.snapshot(run.source.epoch, state)
    run.say({"from": run.config.init_from, "epoch": run.source.epoch})
    return state


def begin(run: Run, state: SearchState, order: int) -> SearchState:
    """Resets the weights' momentum: tuning starts with a fresh optimiser, as in the reference code; SGAS keeps it.

    Every order after the first starts from the supernet of the search again.
    """
    state = run.searched() if order else state
    if METHODS[run.config.select.method].greedy:
        return state
    return state.replace(weight_optimizer=run.training.weight_optimizer.init(state.params))


def tune(run: Run, state: SearchState, order: int, number: int, point: int, last: bool) -> SearchState:
    """Epoch `number` (from 0) of tuning, after decision point `point` (from 1), unless nothing was left to decide there."""
    taken = _taken(run, order)
    idle = run.config.select.order == "certain" and all(decision["point"] != point for decision in taken)
    if idle and not last:
        run.say({"nothing": "was decided, so there is nothing to tune"})
        return state
    settings = _regime(run, number, point)
    key = jax.random.fold_in(run.key("select", "tune", order), number)
    state, metrics = run.epoch(state, key, settings, number, last)
    learned = {"edge_weights": mixtures(run, state)} if run.training.sampler.learns else {}
    run.record_metrics(
        stage="select", order=order + 1, tuning_epoch=number + 1, decisions=len(taken),
        learning_rate=settings.learning_rate, **metrics, **learned,
    )  # fmt: skip
    run.say(metrics)
    return state


def _regime(run: Run, number: int, point: int) -> Regime:
    """The settings of a tuning epoch: a shuffled pass at a constant, lower learning rate; SGAS continues the search's."""
    search, select = run.config.search, run.config.select
    if not METHODS[select.method].greedy:
        return Regime(search.learning_rate * select.tune_lr_factor, "epoch", search.batch_size, 1.0)
    searching = regime(run.config, end_of_search(run.metrics.read())["epoch"] + number)
    return dataclasses.replace(searching, batch_size=search.batch_size + point * run.config.sgas.batch_increase)


def _taken(run: Run, order: int) -> list[dict]:
    """The decisions of an order so far."""
    return [decision for decision in run.decisions.read() if decision["order"] == order + 1]


def decide(run: Run, state: SearchState, order: int, number: int, target: Target, point: int) -> SearchState:
    """Takes the decision of a target, records it, and fixes it in the state; in the order "certain" several, or none."""
    method, key = METHODS[run.config.select.method], jax.random.fold_in(run.key("select", "score", order), number)
    edges_by = run.config.select.order
    if method.greedy:
        decisions = [_greedily(run, state, key, target, method)]
    elif not method.scores:
        decisions = [_by_magnitude(run, state, target)]
    elif target.type == "operation" and edges_by == "certain":
        decisions = _surest(run, state, key, target)
    elif target.type == "operation" and edges_by == "important":
        decisions = [_most_important(run, state, key, target)]
    else:
        decisions = [_by_scores(run, state, key, target)]
    if not decisions:
        run.say({target.kind: "nothing is left to decide"})
    at = {"point": point} if edges_by == "certain" else {}
    for taken, decision in enumerate(decisions, len(_taken(run, order))):
        state = _fixed(run, state, {"order": order + 1, "decision": taken + 1, **at, **decision})
    return state


def _fixed(run: Run, state: SearchState, decision: dict) -> SearchState:
    """Records a decision, shows it, and fixes it in the state."""
    run.record_decision(**decision)
    if decision["type"] == "operation":
        chosen = f"edge {decision['edge']} -> {decision['choice']}"
    else:
        chosen = f"node {decision['node']} keeps edges {', '.join(map(str, decision['choice']))}"
    for remark in filter(None, (_doubt(decision), certainty.race_words(decision), certainty.limit_words(decision))):
        chosen += f" ({remark})"
    accuracy = perturbation.baseline_accuracy(decision)
    run.say(({} if accuracy is None else {"baseline": accuracy}) | {decision["kind"]: chosen})
    return state.replace(decisions=state.decisions.apply(decision))


def _doubt(decision: dict) -> str:
    """A word for the screen about a decision that the images do not support."""
    if tie := certainty.tie_words(decision):
        return tie
    return "within noise" if any(contest.within_noise for contest in certainty.contests(decision)) else ""


def _surest(run: Run, state: SearchState, key: jax.Array, target: Target) -> list[dict]:
    """Scores every open edge of a kind; the decisions that are clear, or else the surest one, or none if all are taken."""
    found = []
    for edge in np.flatnonzero(state.decisions.open(target.kind)).tolist():
        record = _by_scores(run, state, jax.random.fold_in(key, edge), Target("operation", target.kind, edge))
        (contest,) = certainty.contests(record)
        found.append((contest.sureness, record))
    by_sureness = sorted(found, key=lambda each: -each[0])
    clear = [
        record for sureness, record in (by_sureness if run.budget else found) if sureness >= certainty.WITHIN_NOISE
    ]
    return _that_fit(run, state, clear) or [record for _, record in by_sureness[:1]]


def _that_fit(run: Run, state: SearchState, records: Sequence[dict]) -> list[dict]:
    """Those of some decisions that limits let be taken together; the others wait."""
    taken, decisions = [], state.decisions
    for record in records:
        after = decisions.apply(record)
        if run.budget is None or run.budget.fits(*after.on_host()):
            taken, decisions = [*taken, record], after
    return taken


def _most_important(run: Run, state: SearchState, key: jax.Array, target: Target) -> dict:
    """Decides the open edge whose removal hurts most; the record tells what each removal did."""
    space, criterion = run.training.space, CRITERIA[run.config.select.criterion]
    edges = np.flatnonzero(state.decisions.open(target.kind)).tolist()
    masks = without_edges(space, target.kind, edges)
    scores = _score(run, state, target.kind, jax.random.fold_in(key, 1), masks, None)
    edge = edges[int(criterion.harms(scores).argmax())]
    decision = _by_scores(run, state, jax.random.fold_in(key, 0), Target("operation", target.kind, edge))
    return {**decision, "importance": {"edges": edges, criterion.record: scores[criterion.record]}}


def _by_scores(run: Run, state: SearchState, key: jax.Array, target: Target) -> dict:
    """Decides by what the supernet loses under masks, or by slopes; `key` draws images, crops and noise."""
    select, space = run.config.select, run.training.space
    barred = METHODS[select.method].barred(space, select.none_is_candidate)
    passes = itertools.count()

    def score(masks: np.ndarray) -> dict:
        pass_key = key if target.type == "operation" else jax.random.fold_in(key, next(passes))
        return _score(run, state, target.kind, pass_key, masks, _race(run, target, len(masks), barred))

    return perturbation.decide(
        score, space, target, CRITERIA[select.criterion], TOPOLOGIES[select.topology], barred,
        STRATEGIES[select.strategy], TIES[select.ties], state.decisions,
        functools.partial(_slopes, run, state, target.kind, key),
        perturbation.ruled_out(run.budget, state.decisions, target),
    )  # fmt: skip


def _race(run: Run, target: Target, masks: int, barred: Sequence[str]) -> Race | None:
    """How a scoring of so many masks is raced, if at all; the error is split over all scorings of the run."""
    select, space = run.config.select, run.training.space
    if not select.race:
        return None
    is_operation, eligible = target.type == "operation", list(range(masks))
    if is_operation:
        candidates = space.cells[target.kind].edges[target.number].candidates
        eligible = [i for i, name in enumerate(candidates) if name not in barred]
    error = (1 - select.race) / (select.orders * schedule.scorings(space, select.order))
    return Race(error, select.bn == "running", is_operation, eligible)


def _score(run: Run, state: SearchState, kind: str, key: jax.Array, masks: np.ndarray, race: Race | None) -> dict:
    """Scores `masks` [K, E, O] on images, crops and noise that `key` draws."""
    training, select, batch_size = run.training, run.config.select, run.config.search.batch_size
    batches, weights = _batches(run, key), _weights(run, state)
    scorer = functools.partial(training.scorer(kind), state.variables, weights)
    score = scoring.make_score(
        scorer, training.masks(kind), batches, CRITERIA[select.criterion], run.loop, state, batch_size, race,
        training.fewer_masks(kind) if race else None,
    )  # fmt: skip
    try:
        return score(masks)
    except Diverged as error:
        number = np.argmin(np.isfinite(error.total.loss))
        removed = "nothing" if number == 0 else _removed(training.space, kind, masks[number - 1])
        raise FloatingPointError(f"scoring without {removed}: the loss is not finite: look at the data") from error


def _batches(run: Run, key: jax.Array, sampling: str = "epoch", steps: int = 0) -> list[tuple]:
    """The batches that a decision is scored on, by default `select.images`; `key` draws images, crops and noise."""
    training, select, batch_size = run.training, run.config.select, run.config.search.batch_size
    steps = steps or (select.images or training.valid.size) // batch_size
    index_key, batch_key = jax.random.split(key)
    indices = training.indices(index_key, training.valid, sampling, steps)
    return [(training.valid, *b) for b in zip(indices, jax.random.split(batch_key, steps), strict=True)]


def _weights(run: Run, state: SearchState) -> EdgeWeights:
    """The sampler's mean edge weights; those of decided edges are one-hot."""
    return run.training.sampler.weights(run.training.space, state.alphas, state.decisions)


def _slopes(run: Run, state: SearchState, kind: str, key: jax.Array) -> slopes.Slopes:
    """The slopes of a cell kind on images, crops and noise that `key` draws."""
    weights, of_kind = _weights(run, state), run.training.slopes(kind)
    of_batch = functools.partial(of_kind, state.variables, weights)
    return slopes.sum_slopes(
        of_batch, weights[kind].shape, _batches(run, key), run.loop, state, run.config.search.batch_size
    )


def _removed(space: SearchSpace, kind: str, mask: np.ndarray) -> str:
    """Names the operations or the edge that a mask [E, O] removes."""
    edge = np.argwhere(mask == 0)[0, 0]
    names = space.cells[kind].edges[edge].candidates
    kept = mask[edge, : len(names)] > 0
    if not kept.any():
        return f"{kind} edge {edge}"
    removed = ", ".join(name for name, stays in zip(names, kept, strict=True) if not stays)
    return f"{removed} of {kind} edge {edge}"


def _mean_weights(run: Run, state: SearchState, kind: str) -> np.ndarray:
    """The sampler's mean edge weights [E, O]; decided edges keep the weights of their decision."""
    return jax.device_get(run.training.sampler.undecided(run.training.space, state.alphas))[kind]


def _by_magnitude(run: Run, state: SearchState, target: Target) -> dict:
    """Decides by magnitude, in the loop of DARTS-PT: "DARTS+PT-Mag" (paper, section 6.2).

    It ranks a node's inputs by the weight that their operation had at its decision, since alphas of decided edges stay.
    """
    space, kind = run.training.space, target.kind
    weights, ruled_out = _mean_weights(run, state, kind), perturbation.ruled_out(run.budget, state.decisions, target)
    if target.type == "operation":
        return direct.operation_record(space, kind, target.number, weights, ruled_out=ruled_out)
    chosen = jax.device_get(state.decisions.operations[kind])
    strength = np.take_along_axis(weights, chosen[:, None], 1)[:, 0]
    edges = space.cells[kind].incoming(target.number)
    freely, keep = (direct.strongest(space, edges, strength, without) for without in ((), ruled_out))
    return direct.topology_record(space, kind, target.number, strength, keep, ruled_out=ruled_out, freely=freely)


def _greedily(run: Run, state: SearchState, key: jax.Array, target: Target, method: Method) -> dict:
    """Decides as SGAS: its criterion chooses the edge; the largest alpha, or scores ("SGAS+PT", A.1.3), the operation."""
    space, kind = run.training.space, target.kind
    weights = _mean_weights(run, state, kind)
    lines = run.metrics.read()
    searched = end_of_search(lines)["epoch"]
    epochs = [m for m in lines if m["stage"] == "select" or m["epoch"] <= searched]
    history = [from_lists(m["edge_weights"], space)[kind] for m in epochs[:-1]]
    factors = sgas.criterion(space.cells[kind], weights, history, run.config.sgas.criterion)
    closed = run.budget.closed(*state.decisions.on_host(), kind) if run.budget else np.zeros(len(weights), bool)
    edge = sgas.next_edge(state.decisions, kind, np.where(closed, -np.inf, factors["score"]))
    target = Target("operation", kind, edge)
    if method.scores:
        decision = _by_scores(run, state, key, target)
    else:
        barred = method.barred(space, run.config.select.none_is_candidate)
        ruled_out = perturbation.ruled_out(run.budget, state.decisions, target)
        decision = direct.operation_record(space, kind, edge, weights, barred=barred, ruled_out=ruled_out)
    if closed.any():
        decision["closed"] = np.flatnonzero(closed).tolist()
    pruned = sgas.pruned(space, state.decisions.apply(decision), kind, edge)
    return {**decision, **{name: values.tolist() for name, values in factors.items()}, "pruned": pruned}


def decide_at_once(run: Run, state: SearchState, order: int) -> SearchState:
    """Takes all decisions at once.

    The records hold the edge weights, or what a method has measured in their place; the margin of a choice is its lead
    over the best of the rest.
    """
    training, name = run.training, run.config.select.method
    values, images = METHODS[name].values, {}
    if values:
        weights, images = MEASURED[values](run, state, order)
    else:
        weights = jax.device_get(_weights(run, state))

    def select(**limited) -> Choice:
        rng = np.random.RandomState(seed_of(run.config, "select") + order)
        return METHODS[name].selector(training.space, weights, rng, **limited)

    freely = select()
    choice = select(budget=run.budget) if run.budget else freely
    decisions = direct.records(training.space, weights, choice, values or "edge_weights", run.budget, freely)
    for number, record in enumerate(decisions):
        run.record_decision(order=order + 1, decision=number + 1, method=name, **images, **record)
    return state.replace(decisions=architecture.chosen(*choice))


def _shapley(run: Run, state: SearchState, order: int) -> tuple[Mapping[str, np.ndarray], dict]:
    """Shapley values [E, O] by cell kind, and on how many images."""
    training, count, batch_size = run.training, run.config.select.permutations, run.config.search.batch_size
    batches = _batches(run, run.key("select", "shapley", order), "independent", count)
    rng = np.random.RandomState(seed_of(run.config, "select") + order)
    permutations = [rng.permutation(len(shapley.players(training.space))) for _ in range(count)]
    measure = functools.partial(training.measure(), state.variables, _weights(run, state))
    found = shapley.contributions(measure, training.space, permutations, batches, run.loop, state, batch_size)
    return shapley.shapley_values(training.space, found), {"images": int(found.images)}


def _fisher(run: Run, state: SearchState, order: int) -> tuple[Mapping[str, np.ndarray], dict]:
    """The reciprocal Fisher information [E, O] by cell kind, and on how many images."""
    training, batch_size = run.training, run.config.search.batch_size
    batches = _batches(run, run.key("select", "fisher", order))
    of_batch = functools.partial(training.information(), state.variables, _weights(run, state))
    found = fisher.sum_information(of_batch, training.net, batches, run.loop, state, batch_size)
    return found.sharpness(), {"images": int(found.images)}


MEASURED = {"shapley": _shapley, "fisher": _fisher}
"""Measures by `Method.values`: `measure(run, state, order)` gives values [E, O] by cell kind, and more for each record."""


def write_genotype(run: Run, state: SearchState, order: int) -> SearchState:
    """Writes the final architecture; validates the remaining supernet, unless the last tuning epoch did so."""
    lines = [m for m in run.metrics.read() if m.get("order") == order + 1]
    decisions = [d for d in run.decisions.read() if d["order"] == order + 1]
    if not lines:
        metrics = run.validate(state)
        run.record_metrics(stage="select", order=order + 1, tuning_epoch=0, decisions=len(decisions), **metrics)
    genotype = state.decisions.genotype(run.training.space)
    name = genotype_name(order)
    run.write(f"{name}.json", genotype.to_json() + "\n")
    run.write(f"{name}.txt", genotype.text(run.training.space.notation) + "\n")
    _write_alternatives(run, decisions)
    for caution in (*cautions.of_decisions(decisions), *cautions.of_architecture(genotype)):
        run.warn(caution)
    return state


def _write_alternatives(run: Run, decisions: Sequence[Mapping]):
    """Writes the architectures next to the choice, `select.top` less 1 of them, and what they change."""
    count = run.config.select.top - 1
    if not count:
        return
    space, fits = SPACES[run.config.space], {"fits": run.budget.fits} if run.budget else {}
    lines = []
    for rank, one in enumerate(alternatives.alternatives(space, decisions, count, **fits), 2):
        genotype = genotype_of(space, one.operations, one.kept)
        run.write(f"genotype_top{rank}.json", genotype.to_json() + "\n")
        lines.append(
            {"rank": rank, "behind": one.behind, "changes": one.changes, "genotype": genotype.text(space.notation)}
        )
    run.write("alternatives.json", json.dumps(lines, indent=1) + "\n")
    if len(lines) < count:
        run.warn(f"select.top is {count + 1}, but there are only {len(lines)} alternatives to the choice")

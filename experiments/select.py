"""The stage `select`: an architecture is read off the trained supernet, one unit of work per decision or tuning epoch."""

import functools

import jax
import numpy as np

from darts_pt_jax import architecture
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.selection import direct, perturbation
from darts_pt_jax.selection.schedule import Target, decision_points
from darts_pt_jax.spaces import SPACES
from experiments.run import Run, Unit


def units(config) -> list[Unit]:
    """Units of the configured selection: a beginning, decisions with tuning between them, an end."""
    begin, end = Unit("select", "begin", "", restart_optimizer), Unit("select", "genotype", "", write_genotype)
    if config.select.method != "perturbation":
        return [begin, Unit("select", config.select.method, "", derive), end]
    space, interval = SPACES[config.space], config.select.interval
    points = decision_points(space, config.select.order, config.select.pairing, np.random.RandomState(config.seed))
    decide = {"operation": decide_operation, "topology": decide_topology}
    decisions = sum(map(len, points))
    epochs = interval * (len(points) - 1) + min(interval, 1)  # one follows the last decision, as in the reference code
    middle, decided, tuned = [], 0, 0
    for targets in points:
        for target in targets:
            do = functools.partial(decide[target.type], number=decided, target=target)
            decided += 1
            middle.append(Unit("select", "decision", f"{decided}/{decisions}", do, "select.mask_batch"))
        for _ in range(min(interval, epochs - tuned)):
            do = functools.partial(tune, number=tuned, last=tuned + 1 == epochs)
            tuned += 1
            middle.append(Unit("select", "tuning epoch", f"{tuned}/{epochs}", do))
    return [begin, *middle, end]


def restart_optimizer(run: Run, state: SearchState) -> SearchState:
    """Forgets the weights' momentum: tuning starts with a fresh optimiser, as in the reference code."""
    return state.replace(weight_optimizer=run.training.weight_optimizer.init(state.params))


def tune(run: Run, state: SearchState, number: int, last: bool) -> SearchState:
    """One epoch of tuning: a shuffled pass over the training half at a constant, lower learning rate."""
    learning_rate = run.config.search.learning_rate * run.config.select.tune_lr_factor
    key = jax.random.fold_in(run.key("tune"), number)
    state, metrics = run.epoch(state, key, learning_rate, "epoch", number, last)
    run.metrics.append(stage="select", tuning_epoch=number + 1, learning_rate=learning_rate, **metrics)
    run.say(metrics)
    return state


def _score(run: Run, state: SearchState, target: Target, masks: np.ndarray, key: jax.Array) -> dict:
    """Scores `masks` [K, E, O] and, first, the unmasked supernet: {images, baseline, correct [K], loss [K]}."""
    training, select = run.training, run.config.select
    batch_size = run.config.search.batch_size
    steps = (select.images or training.valid.size) // batch_size
    index_key, batch_key = jax.random.split(key)
    indices = training.indices(index_key, training.valid, "epoch", steps)
    keys = jax.random.split(batch_key, steps)
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    scorer = run.scorer(target.kind)
    width = training.space.cells[target.kind].width + 1
    result = perturbation.score_masks(
        lambda m, rows, k: scorer(state, weights, m, training.valid, rows, k),
        np.concatenate([np.ones_like(masks[:1]), masks]),
        min(select.mask_batch or width, width),
        indices,
        keys,
    )
    loss = (result.loss / result.images).tolist()
    correct = result.correct.tolist()
    baseline = {"correct": correct[0], "loss": loss[0]}
    return {"images": steps * batch_size, "baseline": baseline, "correct": correct[1:], "loss": loss[1:]}


def _baseline_accuracy(scores: dict) -> float:
    return 100 * scores["baseline"]["correct"] / scores["images"]


def decide_operation(run: Run, state: SearchState, number: int, target: Target) -> SearchState:
    """Keeps, on one edge, the operation whose removal hurts most (paper, Algorithm 1)."""
    space, select, edge = run.training.space, run.config.select, target.number
    candidates = space.cells[target.kind].edges[edge].candidates
    eligible = [i for i, name in enumerate(candidates) if select.none_is_candidate or name != "none"]
    masks = architecture.without_operations(space, target.kind, edge)
    scores = _score(run, state, target, masks, jax.random.fold_in(run.key("score"), number))
    choice, margin = perturbation.most_harmful(scores["correct"], scores["loss"], select.criterion, eligible)
    run.decisions.append(
        decision=number + 1, type="operation", kind=target.kind, edge=edge, candidates=candidates, eligible=eligible,
        criterion=select.criterion, **scores, choice=candidates[choice], choice_index=choice, margin=margin,
    )  # fmt: skip
    run.say(
        {
            "baseline": _baseline_accuracy(scores),
            target.kind: f"edge {edge} -> {candidates[choice]}",
        }
    )
    return state.replace(decisions=state.decisions.choose(target.kind, edge, choice))


def decide_topology(run: Run, state: SearchState, number: int, target: Target) -> SearchState:
    """Keeps, at one node, the inputs whose removal hurts most (paper, Algorithm 2).

    "leave_one_out" scores the remaining edges anew, on a new data key, before each elimination; eliminated edges stand
    at full weight in later passes. "single_ranking" scores all edges once.
    """
    space, select = run.training.space, run.config.select
    graph = space.cells[target.kind]
    remaining, passes = list(graph.incoming(target.number)), []
    key = jax.random.fold_in(run.key("score"), number)
    scores = None
    while len(remaining) > space.inputs_per_node:
        if scores is None or select.topology == "leave_one_out":
            masks = architecture.without_edges(space, target.kind, remaining)
            scores = _score(run, state, target, masks, jax.random.fold_in(key, len(passes)))
        removed, margin = perturbation.least_harmful(scores["correct"], scores["loss"], select.criterion)
        passes.append({"edges": list(remaining), **scores, "removed": remaining.pop(removed), "margin": margin})
        scores = {k: v[:removed] + v[removed + 1 :] if isinstance(v, list) else v for k, v in scores.items()}
    node = target.number - graph.inputs
    run.decisions.append(
        decision=number + 1, type="topology", kind=target.kind, node=node, criterion=select.criterion,
        topology=select.topology, passes=passes, choice=remaining, margin=passes[-1]["margin"],
    )  # fmt: skip
    run.say(
        {
            "baseline": _baseline_accuracy(passes[0]),
            target.kind: f"node {node} keeps edges {', '.join(map(str, remaining))}",
        }
    )
    return state.replace(decisions=state.decisions.remove(target.kind, [p["removed"] for p in passes]))


def derive(run: Run, state: SearchState) -> SearchState:
    """Takes all decisions at once by a selector that needs no images (`direct.SELECTORS`).

    The records hold what magnitude goes by; a margin is by how much the choice exceeds the best of the rest.
    """
    space, method = run.training.space, run.config.select.method
    weights = jax.device_get(architecture.edge_weights(space, state.alphas, state.decisions))
    decisions = direct.SELECTORS[method](space, weights, np.random.RandomState(run.config.seed))
    operations, kept = jax.device_get((decisions.operations, decisions.kept))
    number = 0
    for kind, graph in space.cells.items():
        allowed = direct.eligible_weights(space, kind, weights[kind])
        for e, edge in enumerate(graph.edges):
            number, index = number + 1, int(operations[kind][e])
            run.decisions.append(
                decision=number, type="operation", kind=kind, edge=e, candidates=edge.candidates, method=method,
                eligible=np.flatnonzero(np.isfinite(allowed[e])).tolist(),
                edge_weights=weights[kind][e][: len(edge.candidates)].tolist(),
                choice=edge.candidates[index], choice_index=index, margin=_lead(allowed[e], index),
            )  # fmt: skip
        for node in space.choosable_nodes(kind):
            edges = np.array(graph.incoming(node))
            keep, strength = kept[kind][edges], allowed[edges].max(-1)
            number += 1
            run.decisions.append(
                decision=number, type="topology", kind=kind, node=node - graph.inputs, method=method,
                edges=edges.tolist(), strength=strength.tolist(), choice=edges[keep].tolist(),
                margin=(strength[keep].min() - strength[~keep].max()).item(),
            )  # fmt: skip
    return state.replace(decisions=decisions)


def _lead(values: np.ndarray, index: int) -> float:
    """By how much one value exceeds the largest other; 0 without another."""
    rest = np.delete(values, index)
    return (values[index] - rest.max()).item() if np.isfinite(rest).any() else 0.0


def write_genotype(run: Run, state: SearchState) -> SearchState:
    """Writes the final architecture."""
    genotype = state.decisions.genotype(run.training.space)
    run.write("genotype.json", genotype.to_json() + "\n")
    run.write("genotype.txt", genotype.text(run.training.space.notation) + "\n")
    return state

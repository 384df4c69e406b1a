import dataclasses
import functools
import itertools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax.bilevel import forward, make_evaluate
from darts_pt_jax.data import batches
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.selection import certainty, fisher, perturbation, scoring, shapley, slopes, strategies
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.selection.strategies import STRATEGIES
from darts_pt_jax.spaces import SearchSpace, dag
from tests import tiny


@functools.cache
def prepared(space):
    net = tiny.supernet(space)
    state = tiny.state(net, jax.random.key(3))
    return net, state, tiny.weights(net, state), tiny.dataset()


def score_all(space, kind, masks, size, augment=True, batch_statistics=True):
    net, state, weights, data = prepared(space)
    scorer = jax.jit(make_scorer(net, kind, batch_statistics, augment))
    indices = batches.epoch_indices(jax.random.key(1), data.size, 2, 16)
    keys = jax.random.split(jax.random.key(2), 2)
    bound = lambda m, batch, unmasked: scorer(state.variables, weights, m, batch, unmasked)  # noqa: E731
    return scoring.score_masks(bound, masks, size, [(data, *b) for b in zip(indices, keys, strict=True)])


def make_scorer(net, kind, batch_statistics=True, augment=True):
    return scoring.make_scorer(make_evaluate(net, batch_statistics, augment), kind)


@pytest.mark.parametrize(
    ("space", "kind", "batch_statistics"),
    [
        ("tiny", "normal", True),
        ("tiny", "reduce", True),
        ("nasbench201", "normal", True),
        ("nasbench201", "normal", False),
    ],
)
def test_scores_of_one_call_are_those_of_separate_passes(space, kind, batch_statistics):
    net, state, weights, data = prepared(space)
    masks = strategies.without_operations(net.space, kind, 1)
    scores = score_all(space, kind, masks, len(masks), batch_statistics=batch_statistics)
    indices = batches.epoch_indices(jax.random.key(1), data.size, 2, 16)

    @jax.jit
    def alone(mask, rows, key):
        augment_key, noise_key = jax.random.split(key)
        images, labels = batches.batch(data, rows, augment_key)
        masked = weights | {kind: weights[kind] * mask}
        return forward(net, state.variables, masked, images, labels, noise_key, batch_statistics)[0]

    for o, mask in enumerate(masks):
        passes = [alone(mask, r, k) for r, k in zip(indices, jax.random.split(jax.random.key(2), 2), strict=True)]
        assert scores.correct[o] == sum(int(p.correct) for p in passes)
        assert scores.images == 32
        np.testing.assert_allclose(scores.loss[o] / 32, sum(float(p.loss) for p in passes) / 32, atol=1e-5)
    assert len(set(scores.loss.tolist())) > 1


def test_masks_in_several_calls_score_as_in_one():
    masks = strategies.without_edges(tiny.SPACE, "normal", [2, 3, 4])
    whole = score_all("tiny", "normal", masks, 3)
    parts = score_all("tiny", "normal", masks, 2)
    np.testing.assert_array_equal(whole.correct, parts.correct)
    np.testing.assert_allclose(whole.loss, parts.loss, rtol=1e-6)


def test_a_criterion_that_is_not_finite_is_named():
    masks = strategies.without_operations(tiny.SPACE, "normal", 1)
    net, state, weights, data = prepared("tiny")
    ratio = dataclasses.replace(
        CRITERIA["loss"], record="ratio", measure=lambda logits, labels, unmasked: 0 * logits.sum(-1) / 0
    )
    criteria = (*scoring.RECORDED, ratio)
    scorer = scoring.make_scorer(make_evaluate(net, True, False), "normal", criteria)
    bound = lambda m, batch, unmasked: scorer(state.variables, weights, m, batch, unmasked)  # noqa: E731
    batch = (data, np.arange(16), jax.random.key(2))
    with pytest.raises(FloatingPointError, match="criterion ratio is not finite"):
        scoring.score_masks(bound, masks, len(masks), [batch], criteria)


def test_criteria_are_what_their_formulas_say(rng):
    logits, unmasked = rng.normal(size=(2, 6, 4)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 0, 1])
    p, q = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in (unmasked, logits))
    right = logits[np.arange(6), labels]
    others = np.array([np.delete(z, label).max() for z, label in zip(logits, labels, strict=True)])
    expected = {
        "acc": right > others, "loss": -np.log(q[np.arange(6), labels]), "kl": (p * np.log(p / q)).sum(-1),
        "margin": right - others,
    }  # fmt: skip
    assert expected.keys() == CRITERIA.keys()
    for name, values in expected.items():
        measured = CRITERIA[name].measure(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(unmasked))
        np.testing.assert_allclose(measured, values, rtol=1e-4, atol=1e-6)
    assert [c.name for c in CRITERIA.values() if c.rises] == ["loss", "kl"]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_paired_error_follows_from_the_single_images(size, rng):
    outcomes = [(rng.random((4, 25)).astype(np.float32), rng.integers(0, 2, (4, 25), np.int32)) for _ in range(3)]

    def scorer(masks, batch, unmasked):  # each entry of a mask is its number
        loss, correct = (values[np.asarray(masks).ravel()] for values in batch)
        sums = Metrics(*(values.sum(1) for values in (loss, correct, np.ones_like(correct))))
        return sums, [loss, correct], None

    score = scoring.make_score(scorer, size, outcomes)
    scores = score(np.array([1, 2, 3]).reshape(3, 1, 1))
    loss, correct = (np.concatenate(parts, 1, dtype=np.float64) for parts in zip(*outcomes, strict=True))
    loss, correct = (
        values[[1, 1, 2, 3]] for values in (loss, correct)
    )  # a mask of ones stands for the unmasked supernet
    for one, other in itertools.product(range(3), (None, 0, 1, 2)):
        rows = one + 1, 0 if other is None else other + 1
        for criterion, values, scale in (("acc", -correct, 75), ("loss", loss, 1)):
            differences = values[rows[0]] - values[rows[1]]
            excess, error = certainty.excess(scores, one, other, CRITERIA[criterion])
            assert excess == pytest.approx(differences.mean() * scale, abs=1e-6)
            assert error == pytest.approx(differences.std() / 75**0.5 * scale, abs=1e-6)
        only_one, only_other = ((correct[a] > correct[b]).sum() for a, b in (rows, rows[::-1]))
        assert scores["paired"]["correct"][rows[0]][rows[1]] == only_one + only_other
    del scores["paired"]
    assert certainty.excess(scores, 1, None, CRITERIA["acc"]) == (
        scores["baseline"]["correct"] - scores["correct"][1],
        None,
    )


@pytest.mark.parametrize(
    ("differing", "lead", "within"),
    [
        (4, 4, True),
        (5, 5, True),
        (6, 6, False),
        (16, 4, True),
        (100, 20, True),
        (100, 22, False),
        (0, 0, True),
        (None, 4, None),
        (None, 0, True),
    ],
)
def test_a_lead_that_is_not_significant_by_mcnemar_s_test_is_within_noise(differing, lead, within):
    pairs = [[0, 30, 26], [30, 0, differing], [26, differing, 0]]
    record = {
        "type": "operation", "criterion": "acc", "eligible": [0, 1], "choice_index": 0, "images": 1000,
        "baseline": {"correct": 900}, "correct": [880, 880 + lead],
    } | ({} if differing is None else {"paired": {"correct": pairs}})  # fmt: skip
    (contest,) = certainty.contests(record)
    assert (contest.winner, contest.runner_up, contest.lead, contest.within_noise) == (0, 1, lead, within)
    dropped = {"type": "topology", "criterion": "acc", "passes": [{**record, "edges": [5, 7], "removed": 7}]}
    (contest,) = certainty.contests(dropped)
    assert (contest.winner, contest.runner_up, contest.lead, contest.within_noise) == (1, 0, lead, within)


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from primitives(inner)


def test_the_scorer_has_no_loop_and_one_set_of_convolutions_for_all_candidates():
    net, state, weights, data = prepared("nasbench201")
    score = make_scorer(net, "normal")

    def equations(masks):
        args = (state.variables, weights, jnp.asarray(masks), (data, jnp.arange(8), jax.random.key(0)))
        return list(primitives(jax.make_jaxpr(score)(*args).jaxpr))

    five = equations(strategies.without_operations(net.space, "normal", 1))
    two = equations(strategies.without_operations(net.space, "normal", 1)[:2])
    assert {"scan", "while"}.isdisjoint({e.primitive.name for e in five})
    count = [sum(e.primitive.name == "conv_general_dilated" for e in equations) for equations in (five, two)]
    assert count[0] == count[1] > 0


def test_cells_before_the_first_of_a_kind_are_computed_once():
    net, state, weights, data = prepared("tiny")
    score = make_scorer(net, "reduce")
    masks = jnp.ones((5, 9, 2))
    batch = (data, jnp.arange(8), jax.random.key(0))
    jaxpr = jax.make_jaxpr(score)(state.variables, weights, masks, batch).jaxpr
    products = [e for e in primitives(jaxpr) if e.primitive.name in ("conv_general_dilated", "dot_general")]
    sizes = [max(v.aval.size for v in e.invars) for e in products]
    assert sizes[0] == 8 * 8 * 8 * 2, "the convolution of the stem"
    assert sizes.count(8 * 8 * 8 * 4) >= 6, "convolutions of the normal cell work on one batch, not on five"
    assert 5 * 8 * 8 * 8 * 4 not in sizes


def test_one_compilation_serves_all_edges_of_a_kind():
    net, state, weights, data = prepared("tiny")
    scorer = jax.jit(make_scorer(net, "normal"))
    for edge in (0, 4):
        masks = strategies.without_operations(net.space, "normal", edge)[:2]
        scorer(state.variables, weights, jnp.asarray(masks), (data, jnp.arange(8), jax.random.key(0)))
    assert scorer._cache_size() == 1


def test_a_mask_of_ones_changes_nothing_and_masks_share_noise():
    masks = strategies.without_operations(prepared("nasbench201")[0].space, "normal", 3)
    scores = score_all("nasbench201", "normal", np.concatenate([np.ones_like(masks[:1]), masks]), 6)
    np.testing.assert_allclose(scores.loss[1], scores.loss[0], rtol=1e-6)
    same = score_all("tiny", "normal", np.ones((3, 9, 4), np.float32), 3)
    assert same.loss[0] == same.loss[1] == same.loss[2]


@pytest.mark.parametrize(
    ("criterion", "eligible", "choice", "margin"),
    [
        ("acc", [0, 1, 2, 3], 1, 0),  # 1 and 2 are equal: the first
        ("acc", [0, 2, 3], 2, 2),
        ("acc", [3], 3, 0),
        ("loss", [0, 1, 2, 3], 0, 0.5),
        ("loss", [1, 2, 3], 1, 0),
    ],
)
def test_the_kept_operation_is_the_first_of_the_most_harmful(criterion, eligible, choice, margin):
    harms = CRITERIA[criterion].harms({"correct": [9, 5, 5, 7], "loss": [2.0, 1.5, 1.0, 1.5]})
    kept = strategies.most_harmful(harms, eligible)
    assert kept == (choice, pytest.approx(margin))


@pytest.mark.parametrize(("criterion", "position", "margin"), [("acc", 2, 0.0), ("loss", 3, 0.25)])
def test_the_dropped_edge_is_the_last_of_the_least_harmful(criterion, position, margin):
    harms = CRITERIA[criterion].harms({"correct": [4, 8, 8, 1], "loss": [1.5, 1.25, 1.25, 1.0]})
    dropped = strategies.least_harmful(harms)
    assert dropped == (position, pytest.approx(margin))


def test_masks_remove_one_thing_each():
    masks = strategies.without_operations(tiny.SPACE, "normal", 4)
    assert masks.shape == (4, 9, 4)
    for o, mask in enumerate(masks):
        assert mask[4, o] == 0 and mask.sum() == 35
    masks = strategies.without_edges(tiny.SPACE, "normal", [2, 4])
    assert masks.shape == (2, 9, 4) and not masks[1, 4].any() and masks.sum((1, 2)).tolist() == [32, 32]


def test_keep_one_leaves_a_single_candidate_on_the_edge():
    masks = STRATEGIES["keep_one"].masks(tiny.SPACE, "normal", 4)
    expected = np.ones((4, 9, 4))
    expected[:, 4] = np.eye(4)
    np.testing.assert_array_equal(masks, expected)


@pytest.mark.parametrize(
    ("criterion", "eligible", "choice", "runner_up", "margin"),
    [("acc", [0, 1, 2, 3], 0, 3, 2), ("acc", [1, 2, 3], 3, 1, 2), ("loss", [0, 1, 2, 3], 2, 1, 0.5), ("loss", [0], 0, None, 0)],
)  # fmt: skip
def test_keep_one_keeps_what_costs_least_alone(criterion, eligible, choice, runner_up, margin):
    values = {"correct": [9, 5, 5, 7], "loss": [2.0, 1.5, 1.0, 1.5]}
    squares = {name: np.subtract.outer([2, *one], [2, *one]) ** 2 for name, one in values.items()}
    squares = {name: (10 * rows + 1).tolist() for name, rows in squares.items()}
    result = {"images": 10, "baseline": {"correct": 8, "loss": 1.0}, **values, "paired": squares}
    edge = 4  # has four candidates
    record = perturbation.decide_operation(
        lambda masks: result, tiny.SPACE, "normal", edge, CRITERIA[criterion],
        [name for o, name in enumerate(tiny.CANDIDATES[edge]) if o not in eligible], STRATEGIES["keep_one"],
    )  # fmt: skip
    assert (record["choice_index"], record["margin"]) == (choice, pytest.approx(margin))
    (contest,) = certainty.contests(record)
    assert (contest.winner, contest.runner_up, contest.lead) == (choice, runner_up, pytest.approx(margin))


LINEAR = {"normal": (9, 4), "reduce": (9, 2)}
"""Shapes of the edge weights of a supernet whose logits are linear in those of the normal cell."""


def linear(variables, edge_weights, batch):
    outputs, labels = batch
    return jnp.einsum("eo,beoc->bc", edge_weights["normal"], outputs), labels


def linear_inputs(rng):
    """Edge weights, and batches of two."""
    weights = {kind: rng.random(shape).astype(np.float32) for kind, shape in LINEAR.items()}
    outputs = rng.normal(size=(2, 6, 9, 4, 3)).astype(np.float32)
    return weights, list(zip(outputs, rng.integers(0, 3, (2, 6)), strict=True))


@pytest.mark.parametrize("strategy", [name for name, strategy in STRATEGIES.items() if strategy.masks])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_decision_can_be_repeated_from_its_record(criterion, strategy, rng):
    weights, batches = linear_inputs(rng)
    criterion, strategy = CRITERIA[criterion], STRATEGIES[strategy]
    scorer = functools.partial(scoring.make_scorer(linear, "normal", scoring.criteria_with(criterion)), None, weights)
    score = scoring.make_score(scorer, 5, batches, criterion)
    target = Target("operation", "normal", 4)
    record = perturbation.decide(score, tiny.SPACE, target, criterion, strategy=strategy)
    harms = criterion.harms(record)
    assert harms.shape == (4,) and strategies.strategy_of(record) is strategy
    best = harms.argmin() if strategy.keeps else harms.argmax()
    (contest,) = certainty.contests(record)
    assert contest.winner == record["choice_index"] == best and contest.error is not None
    assert contest.lead == pytest.approx(abs(harms[contest.winner] - harms[contest.runner_up]))
    assert record["margin"] == pytest.approx(contest.lead)


def test_a_criterion_takes_no_name_that_records_use():
    with pytest.raises(ValueError, match="criterion acc: got record='margin', which records use otherwise"):
        dataclasses.replace(CRITERIA["acc"], record="margin")


def test_slopes_are_the_derivatives_of_the_summed_loss(rng):
    """Where logits are linear in the edge weights, dL/dw is the sum of (softmax - one_hot) times the outputs."""
    weights, batches = linear_inputs(rng)
    of_batch = functools.partial(jax.jit(slopes.make_slopes(linear, "normal")), None, weights)
    found = slopes.sum_slopes(of_batch, (9, 4), batches)
    expected, correct = np.zeros((9, 4)), 0
    for y, label in batches:
        logits = np.einsum("eo,beoc->bc", weights["normal"], y)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected += weights["normal"] * np.einsum("bc,beoc->eo", shares - np.eye(3)[label], y)
        correct += (logits.argmax(-1) == label).sum()
    np.testing.assert_allclose(found.slopes, expected, rtol=1e-4, atol=1e-5)
    assert (found.images, found.correct) == (12, correct)

    record = perturbation.decide(
        None, tiny.SPACE, Target("operation", "normal", 4), strategy=STRATEGIES["first_order"], barred=["none"],
        get_slopes=lambda: found,
    )  # fmt: skip
    importance = np.abs(expected[4]) / 12
    assert record["first_order"] == pytest.approx(importance, rel=1e-4)
    assert record["choice_index"] == 1 + importance[1:].argmax() and record["eligible"] == [1, 2, 3]
    assert record["margin"] == pytest.approx(np.diff(np.sort(importance[1:]))[-1], rel=1e-3)
    assert record["images"] == 12 and not certainty.contests(record)
    with pytest.raises(ValueError, match="first_order has no masks: give get_slopes"):
        perturbation.decide(None, tiny.SPACE, Target("operation", "normal", 4), strategy=STRATEGIES["first_order"])


def test_shapley_values_of_a_game_worked_by_hand():
    """Three players on two edges; how many of ten images are right depends on the players that are left.

    Permutation 0, 1, 2 of rights 8, 7, 5, 3: the third removal ends below half of 8, which no player is left to notice.
    Permutation 2, 0, 1 of rights 8, 3: it ends at once, and the others count 0.
    """
    space = SearchSpace(
        "game", {"normal": dag(1, 2, {0: ("a", "b"), 1: ("a",), 2: ()})}, lambda cells: ("normal",) * cells
    )
    rights = {(1, 1, 1): 8, (0, 1, 1): 7, (0, 0, 1): 5, (0, 0, 0): 3, (1, 1, 0): 3}
    asked = []

    def measure(masks, batch):
        left = tuple(masks["normal"][entry] for entry in ((0, 0), (0, 1), (1, 0)))
        asked.append((batch, left))
        return Metrics(np.float32(1), np.int32(rights[left]), np.int32(10))

    assert shapley.players(space) == [("normal", 0, 0), ("normal", 0, 1), ("normal", 1, 0)]
    orders = [np.array([0, 1, 2]), np.array([2, 0, 1])]
    found = shapley.contributions(measure, space, orders, ["first", "second"])
    np.testing.assert_allclose(found.values, [[0.1, 0.2, 0.2], [0, 0, 0.5]])
    assert [batch for batch, _ in asked] == ["first"] * 4 + ["second"] * 2 and found.images == 20
    values = shapley.shapley_values(space, found)["normal"]
    np.testing.assert_allclose(values[0], [0.05 - 0.05, 0.1 - 0.1], atol=1e-12)
    assert values[1, 0] == pytest.approx(0.35 - 0.15) and values[1, 1] == values[2, 0] == -np.inf


def test_the_measure_masks_every_cell_kind(rng):
    weights = {kind: rng.random((9, n)).astype(np.float32) for kind, n in (("normal", 4), ("reduce", 2))}
    masks = {kind: rng.integers(0, 2, row.shape).astype(np.float32) for kind, row in weights.items()}

    def evaluate(variables, edge_weights, batch):
        total = sum(row.sum() for row in edge_weights.values())
        return jnp.stack([total, batch], -1)[None], jnp.zeros(1, int)

    total = sum((weights[kind] * masks[kind]).sum() for kind in weights)
    measure = jax.jit(shapley.make_measure(evaluate))
    found = [measure(None, weights, masks, jnp.float32(total + more)) for more in (-0.1, 0.1)]
    assert [int(one.correct) for one in found] == [1, 0]


def test_the_fisher_information_of_a_bfloat16_output_is_computed_in_float32(rng):
    y = jnp.asarray(rng.normal(size=(4, 3, 3, 8)), jnp.bfloat16)
    found = fisher.of_output(y)
    assert found.dtype == jnp.float32 and found == fisher.of_output(y.astype(jnp.float32))


def test_the_fisher_information_is_that_of_the_outputs(key):
    net, state, weights, data = prepared("cell")
    rows = [np.arange(16), np.arange(16, 32)]
    of_batch = functools.partial(jax.jit(fisher.make_information(net)), state.variables, weights)
    found = fisher.sum_information(of_batch, net, [(data, indices, key) for indices in rows])
    images, _ = batches.batch(data, np.arange(32), None)
    _, updated = net.apply(state.variables, images, weights, False, mutable=["batch_stats", "intermediates"])
    cells = [f"cells_{i}" for i, kind in enumerate(net.space.layout(net.cells)) if kind == "normal"]
    graph, expected = net.space.cells["normal"], np.zeros((6, 5))
    for group in graph.groups:
        for position, (edge, candidate) in enumerate(zip(group.edges, group.candidates, strict=True)):
            for cell in cells:
                y = np.asarray(updated["intermediates"][cell][group.label][0][position], np.float64)
                deviation = y.std(-1, ddof=1, keepdims=True)
                with np.errstate(divide="ignore", invalid="ignore"):
                    values = 3 * (y - y.mean(-1, keepdims=True)) ** 2 / deviation**6
                expected[edge, candidate] += np.where(np.isnan(values), np.inf, values).mean() / len(cells)
    sharpness = found.sharpness()["normal"]
    assert found.images == 32 and (sharpness[:, 0] == 0).all(), "none is the first to go"
    assert np.isfinite(expected[:, 1:]).any()
    np.testing.assert_allclose(sharpness, 1 / expected, rtol=1e-3, atol=1e-12)

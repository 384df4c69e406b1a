"""A supernet without the excluded candidates computes the same as the whole supernet."""

import jax
import numpy as np
import optax
import pytest

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.architecture import Decisions
from darts_pt_jax.bilevel import Batch
from darts_pt_jax.selection import scoring
from darts_pt_jax.supernet import Supernet
from tests import tiny

DECISIONS = {  # kind, edge, candidate; kind, removed edges
    "tiny": (
        [("normal", 0, 1), ("normal", 1, 0), ("normal", 4, 2), ("normal", 6, 0), ("reduce", 0, 0), ("reduce", 3, 1)],
        [("normal", [4]), ("reduce", [2, 3])],
    ),
    "nasbench201": ([("normal", 0, 1), ("normal", 1, 3), ("normal", 3, 0), ("normal", 4, 4)], []),
}


HERE = {"tiny": tiny.SPACE, "nasbench201": tiny.BENCH}


def decided(space):
    decisions = architecture.undecided(HERE[space])
    chosen, removed = DECISIONS[space]
    for kind, edge, candidate in chosen:
        decisions = decisions.choose(kind, edge, candidate)
    for kind, edges in removed:
        decisions = decisions.remove(kind, edges)
    return decisions


def numbers(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def same_to_rounding(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * (1 + abs(b).max())), one, two)


@pytest.mark.slow
@pytest.mark.parametrize("space", DECISIONS)
def test_excluded_candidates_can_be_dropped(space, key):
    net, data = Supernet(HERE[space], 1, 4, 3), tiny.dataset(16)
    optimizer, alphas = bilevel.weight_optimizer(clip=0.01), bilevel.alpha_optimizer(0.1)
    state = bilevel.init_state(net, key, (8, 8, 2), optimizer, alphas, 0.5).replace(decisions=decided(space))
    images, masks = (data.images / 255.0 - 0.5) * 2, np.ones((2, *state.alphas["normal"].shape), np.float32)
    masks[1, 2, 1] = 0

    def steps(net):
        gradient = bilevel.make_gradient(net, ("params", "alphas"))
        update, alpha_update = bilevel.make_weight_update(optimizer), bilevel.make_alpha_update(alphas)
        scorer = scoring.make_scorer(bilevel.make_evaluate(net, True, True), "normal")

        @jax.jit
        def step(state):
            gradients, metrics, stats = gradient(state, Batch(images, data.labels, key))
            return (gradients, metrics), alpha_update(update(state, gradients, stats, 0.1), gradients, stats)

        def two_steps(state):
            first = step(state)
            second = step(first[1])
            batch = data, np.arange(8), key
            scores = jax.jit(scorer)(state.variables, tiny.weights(net, state), masks, batch)
            return (first[0], second[0]), (first[1], second[1]), scores

        return two_steps

    other = net.clone(space=net.space.restricted(state.decisions.candidates(net.space)))
    like = jax.eval_shape(lambda: bilevel.init_state(other, key, (8, 8, 2), optimizer, alphas))
    rest = bilevel.restrict(state, net, other, like)
    assert jax.tree.structure(rest) == jax.tree.structure(like)
    jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) or pytest.fail(f"{a} {b}"), rest, like)
    whole, less = jax.device_get((steps(net)(state), steps(other)(rest)))
    passes, states, scores = whole
    assert numbers(rest.params) < numbers(state.params) and numbers(rest.batch_stats) < numbers(state.batch_stats)
    assert optax.tree.norm(passes[0][0]["params"]) > 0.1, "the gradient is clipped"

    def part(tree, like):
        return bilevel.restrict(tree, net, other, like)

    same_to_rounding(less[0], part(passes, less[0]))
    same_to_rounding(less[1], part(states, less[1]))
    same_to_rounding(less[2], scores)
    assert abs(scores[0].loss[1] - scores[0].loss[0]) > 1e-4
    assert abs(part(states[0].params, rest.params)["head"]["kernel"] - state.params["head"]["kernel"]).max() > 1e-5
    for whole_pass, less_pass in zip(passes, less[0], strict=True):
        norms = [optax.tree.norm(one[0]["params"]) for one in (whole_pass, less_pass)]
        np.testing.assert_allclose(*norms, rtol=1e-4, err_msg="a dropped candidate has a gradient")


@pytest.mark.parametrize("space", DECISIONS)
def test_a_restricted_supernet_keeps_the_values_of_its_edges(space, key):
    """Finds them by edge and operation, without the function that restricts."""
    net = Supernet(HERE[space], 1, 4, 3)
    state = tiny.state(net, key).replace(decisions=decided(space))
    leaves, tree = jax.tree.flatten(state.batch_stats)
    numbered = [i + np.arange(leaf.size).reshape(leaf.shape) / 1000 for i, leaf in enumerate(leaves)]
    state = state.replace(batch_stats=jax.tree.unflatten(tree, numbered))
    other = net.clone(space=net.space.restricted(state.decisions.candidates(net.space)))
    rest = bilevel.restrict(state, net, other, jax.eval_shape(lambda: tiny.state(other, key)))
    compared = 0
    for c, kind in enumerate(net.space.layout(1)):
        if kind not in net.space.cells:
            continue
        whole = {group.label: group.edges for group in net.space.cells[kind].groups}
        for group in other.space.cells[kind].groups:
            for part in ("params", "batch_stats"):
                before, after = (getattr(x, part)[f"cells_{c}"].get(group.label, {}) for x in (state, rest))
                stacked = group.label in state.params[f"cells_{c}"]
                for row, edge in enumerate(group.edges):
                    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
                        a, b = (a[whole[group.label].index(edge)], b[row]) if stacked else (a, b)
                        np.testing.assert_array_equal(a, b)
                        compared += 1
    assert compared > 10


def test_the_remaining_candidates_are_the_undecided_and_the_kept_ones():
    space = tiny.SPACE
    left = decided("tiny").candidates(space)
    assert [row.tolist() for row in left["normal"][[0, 1, 2, 4]]] == [
        [False, True, False, False],
        [True, False, False, False],
        [True, True, False, False],
        [False, False, False, False],
    ]
    restricted = space.restricted(left)
    assert restricted.cells["normal"].edges[0].candidates == (None, "centred")
    assert restricted.cells["normal"].edges[0].operations == ((1, "centred"),)
    assert restricted.cells["normal"].edges[4].operations == ()
    for kind, graph in space.cells.items():
        assert restricted.cells[kind].width == graph.width
        np.testing.assert_array_equal(restricted.cells[kind].candidate_mask, graph.candidate_mask)
    everything = space.restricted(architecture.undecided(space).candidates(space))
    assert everything == space


@pytest.mark.parametrize("space", DECISIONS)
def test_decisions_survive_the_conversion_to_lists(space):
    decisions = decided(space)
    again = Decisions.from_lists(decisions.to_lists())
    assert jax.tree.structure(decisions) == jax.tree.structure(again)
    for one, two in zip(jax.tree.leaves(decisions), jax.tree.leaves(again), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)

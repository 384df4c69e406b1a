"""Partial channels (PC-DARTS) against a computation by NumPy, and under masks, decisions and restriction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import bilevel
from darts_pt_jax.channels import AllChannels, PartialChannels
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.selection import scoring, strategies
from darts_pt_jax.spaces import dag
from darts_pt_jax.supernet import Cell, Supernet
from tests import tiny

SHARE, CHANNELS = 3, 6


def pooled(x, stride, function):
    """3 x 3 pooling over the pixels inside the image."""
    rows, columns = (range(0, n, stride) for n in x.shape[1:3])
    windows = [[x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] for j in columns] for i in rows]
    return np.stack([np.stack([function(w, axis=(1, 2)) for w in row], 1) for row in windows], 1)


OPERATIONS = {
    "skip_connect": lambda x, stride: x,
    "max_pool_3x3": lambda x, stride: pooled(x, stride, np.max),
    "avg_pool_3x3": lambda x, stride: pooled(x, stride, np.mean),
}


def edge(x, candidates, weights, stride):
    """The output of PC-DARTS' MixedOp, channels last; zero if all weights are 0."""
    if not weights.any():
        return 0
    part, rest = x[..., : CHANNELS // SHARE], x[..., CHANNELS // SHARE :]
    mixed = sum(weight * OPERATIONS[name](part, stride) for name, weight in zip(candidates, weights, strict=True))
    if stride == 2:
        even = [slice(i, i + 2) for i in range(0, x.shape[1], 2)]
        rest = np.stack([np.stack([rest[:, i, j].max((1, 2)) for j in even], 1) for i in even], 1)
    y = np.concatenate([mixed, rest], -1)
    return np.stack([y[..., g * (CHANNELS // SHARE) + c] for c in range(CHANNELS // SHARE) for g in range(SHARE)], -1)


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize("reduction", [False, True])
def test_a_cell_equals_a_computation_by_numpy(reduction, size, key):
    candidates = ("max_pool_3x3", "avg_pool_3x3") if reduction else ("skip_connect", "max_pool_3x3", "avg_pool_3x3")
    graph = dag(1, 2, candidates, reduction=reduction)
    x = np.asarray(jax.random.normal(key, (2, size, size, CHANNELS)))
    weights = np.asarray(jax.random.uniform(jax.random.key(1), graph.candidate_mask.shape))
    removed = np.ones_like(weights)
    removed[1] = 0  # the whole edge
    without = np.ones_like(weights)
    without[2, 0] = 0  # one candidate
    cells = [Cell(graph, CHANNELS, False, False, plain, PartialChannels(SHARE)) for plain in (False, True)]
    programs = [jax.jit(functools.partial(cell.apply, {}, batch_statistics=True)) for cell in cells]
    for entries in (weights, weights * removed, weights * without):
        states = [x]
        for state in graph.node_states:
            edges = [(graph.edges[e], entries[e]) for e in graph.incoming(state)]
            states.append(sum(edge(states[one.source], one.candidates, row, one.stride) for one, row in edges))
        expected = np.concatenate([states[s] for s in graph.outputs], -1)
        for program in programs:
            np.testing.assert_allclose(program((x,), entries), expected, rtol=1e-5, atol=1e-5)


def fresh(net, key):
    return jax.jit(functools.partial(tiny.state, net))(key)


def test_a_share_of_one_is_all_channels(key):
    net = Supernet(tiny.CELL, 1, 4, 3)
    assert net.mixed_channels == AllChannels()
    state, images = fresh(net, key), jax.random.normal(key, (4, 8, 8, 2))
    args = state.variables, images, tiny.weights(net, state)
    one, every = (
        jax.jit(functools.partial(n.apply, batch_statistics=False))
        for n in (net, net.clone(mixed_channels=PartialChannels(1)))
    )
    np.testing.assert_allclose(one(*args), every(*args), rtol=1e-5, atol=1e-6)


def test_candidates_have_a_share_of_the_channels_that_must_divide_them(key):
    net = Supernet(tiny.CELL, 1, 4, 3, mixed_channels=PartialChannels(2))
    shapes = jax.eval_shape(functools.partial(tiny.state, net), key)
    assert {leaf.shape[-2:] for leaf in jax.tree.leaves(shapes.params["cells_0"])} == {(2, 2)}
    with pytest.raises(ValueError, match="partial channels: got 4 channels, expected a multiple of share 3"):
        jax.eval_shape(functools.partial(tiny.state, net.clone(mixed_channels=PartialChannels(3))), key)


def test_masks_decisions_and_restriction_work_as_with_all_channels(key):
    net = Supernet(tiny.CELL, 1, 4, 3, mixed_channels=PartialChannels(2))
    state, data = fresh(net, key), tiny.dataset(8)
    batch = data, jnp.arange(8), key

    def program(net):
        evaluate = bilevel.make_evaluate(net, True, False)

        def loss(state, mask):
            return Metrics.of_each(*evaluate(state.variables, masked(net, state, mask), batch)).sum().loss

        return evaluate, jax.jit(loss)

    def masked(net, state, mask):
        return {"normal": tiny.weights(net, state)["normal"] * mask}

    evaluate, loss = program(net)
    masks = strategies.without_operations(net.space, "normal", 2)
    scorer = jax.jit(scoring.make_scorer(evaluate, "normal"))
    scores = scorer(state.variables, tiny.weights(net, state), jnp.asarray(masks), batch)[0].loss
    np.testing.assert_allclose(scores, [loss(state, mask) for mask in masks], rtol=1e-4)
    assert np.ptp(scores) > 1e-3

    decisions = state.decisions.choose("normal", 0, 3).choose("normal", 2, 1).remove("normal", [4])
    decided = state.replace(decisions=decisions)
    part = net.clone(space=net.space.restricted(decisions.candidates(net.space)))
    less = bilevel.restrict(decided, net, part, jax.eval_shape(functools.partial(tiny.state, part), key))
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(one.params)) for one in (decided, less)]
    assert sizes[1] < sizes[0]
    np.testing.assert_allclose(loss(decided, 1.0), program(part)[1](less, 1.0), rtol=1e-5)
    gradient = jax.jit(bilevel.make_gradient(part, ("params", "alphas")))
    gradients, _, _ = gradient(less, bilevel.Batch(data.images / 255.0, data.labels, key))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert gradients["alphas"]["normal"].any()

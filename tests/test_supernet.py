import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import architecture, bilevel
from tests import tiny


def logits(net, state, weights, images, key):
    out, _ = net.apply(state.variables, images, weights, True, mutable=["batch_stats"], rngs={"noise": key})
    return out


@pytest.mark.parametrize("space", ["tiny", "nasbench201"])
def test_weights_enter_linearly_at_the_last_node(space, key):
    """An edge of weight zero adds nothing: its parameters do not matter."""
    net = tiny.supernet(space)
    state = tiny.state(net, key)
    weights = tiny.weights(net, state)
    edge, candidate = 1, net.space.cells["normal"].edges[1].candidates.index("nor_conv_1x1")
    masked = weights | {"normal": weights["normal"].at[edge, candidate].set(0)}
    images = jax.random.normal(key, (8, 8, 8, 2))

    def changed(path, leaf):
        names = [p.key for p in path]
        return leaf + 1 if f"edge_{edge}" in names and "nor_conv_1x1" in names and names[0] == "cells_0" else leaf

    other = state.replace(params=jax.tree_util.tree_map_with_path(changed, state.params))
    np.testing.assert_array_equal(logits(net, state, masked, images, key), logits(net, other, masked, images, key))
    assert not np.allclose(
        logits(net, state, weights, images, key), logits(net, other, weights, images, key), atol=1e-3
    )


def test_the_gradient_in_the_edge_weights_is_the_numerical_one(key):
    net = tiny.supernet("tiny")
    state = tiny.state(net, key)
    data = tiny.dataset()
    images = (data.images / 255.0 - 0.5) * 4
    direction = {k: jax.random.normal(key, w.shape) for k, w in tiny.weights(net, state).items()}

    @jax.jit
    def loss(step):
        weights = {k: w + step * direction[k] for k, w in tiny.weights(net, state).items()}
        return bilevel.forward(net, state.variables, weights, images, data.labels, key, True)[0].loss / data.size

    numerical = (loss(1e-2) - loss(-1e-2)) / 2e-2
    np.testing.assert_allclose(jax.grad(loss)(0.0), numerical, rtol=2e-2, atol=1e-3)


def test_edge_weights_are_softmax_one_hot_or_zero():
    space = tiny.SPACE
    alphas = architecture.init_alphas(space, jax.random.key(1), 1.0)
    decisions = architecture.undecided(space).choose("normal", 4, 2).choose("normal", 0, 1).remove("normal", [0])
    weights = architecture.edge_weights(space, alphas, decisions)["normal"]
    assert weights.shape == (9, 4)
    np.testing.assert_array_equal(weights[4], [0, 0, 1, 0])
    np.testing.assert_array_equal(weights[0], np.zeros(4))
    row = np.exp(alphas["normal"][1][:3])
    np.testing.assert_allclose(weights[1], [*(row / row.sum()), 0], rtol=1e-6)


def test_decided_rows_pass_no_gradient():
    space = tiny.SPACE
    alphas = architecture.init_alphas(space, jax.random.key(1), 1.0)
    decisions = architecture.undecided(space).choose("normal", 4, 2).remove("reduce", [3])

    def total(alphas):
        return sum(jnp.sum(w**2) for w in architecture.edge_weights(space, alphas, decisions).values())

    gradient = jax.grad(total)(alphas)
    assert not gradient["normal"][4].any() and not gradient["reduce"][3].any()
    assert gradient["normal"][1].any() and gradient["reduce"][2].any() and np.isfinite(gradient["normal"]).all()


def test_an_undecided_edge_has_no_genotype():
    with pytest.raises(ValueError, match=r"normal edges \[0, 1"):
        architecture.undecided(tiny.SPACE).genotype(tiny.SPACE)

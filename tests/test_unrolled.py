"""Second-order alpha gradients, on a problem whose answer is known and on a supernet against numerical differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.bilevel import Batch
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.unrolled import ALPHA_GRADIENTS
from tests import tiny

MOMENTUM, DECAY, RATE = 0.9, 3e-4, 0.1
RADIUS = 3e-4
"""Step of numerical differences: wide enough for float32, so narrow that few ReLUs change their sign within."""


def quadratic(a, b):
    """Training loss |w - a alpha|^2 / 2 of a batch ("train",), validation loss |w - b|^2 / 2 + |alpha|^2 / 2."""

    def gradient(*names):
        def loss(values, state, half):
            w, alpha = values.get("params", state.params)["w"], values.get("alphas", state.alphas)["normal"]
            train = jnp.sum((w - a @ alpha) ** 2) / 2
            valid = jnp.sum((w - b) ** 2) / 2 + jnp.sum(alpha**2) / 2
            return jnp.where(half == 0, train, valid)

        def run(state, half, edge_weights=None, draw=None):
            values = {name: getattr(state, name) for name in names}
            return jax.grad(loss)(values, state, half), Metrics.zero(), {"half": half}

        return run

    return gradient


@pytest.mark.parametrize("how", ["exact", "finite_difference"])
def test_the_gradient_through_one_step_of_a_quadratic_equals_the_one_computed_by_hand(how, rng):
    a, b, w, alpha, buffer = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3), 4, 4, 3, 4))
    optimizer = bilevel.weight_optimizer(MOMENTUM, DECAY)
    state = bilevel.SearchState({"w": w}, {}, {"normal": alpha}, optimizer.init({"w": w}), None, None)
    trace = optax.tree.set(state.weight_optimizer, trace={"w": buffer})
    alpha_gradient = ALPHA_GRADIENTS[how](quadratic(a, b), momentum=MOMENTUM, weight_decay=DECAY)
    gradients, _, stats = alpha_gradient(state.replace(weight_optimizer=trace), jnp.int32(0), jnp.int32(1), RATE)
    ahead = w - RATE * (MOMENTUM * buffer + (w - a @ alpha) + DECAY * w)
    # the training gradient falls by a in alpha, so that w' rises by RATE a
    np.testing.assert_allclose(gradients["alphas"]["normal"], alpha + RATE * a.T @ (ahead - b), rtol=2e-3, atol=2e-3)
    assert stats == {"half": 0}, "the running statistics are those of the training pass"


def test_with_a_learning_rate_of_zero_it_is_first_order(rng):
    a, b, w, alpha = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3), 4, 4, 3))
    optimizer = bilevel.weight_optimizer(MOMENTUM, DECAY)
    state = bilevel.SearchState({"w": w}, {}, {"normal": alpha}, optimizer.init({"w": w}), None, None)
    batches = jnp.int32(0), jnp.int32(1), 0.0
    first, exact = (ALPHA_GRADIENTS[how](quadratic(a, b))(state, *batches)[0] for how in ("off", "exact"))
    np.testing.assert_allclose(exact["alphas"]["normal"], first["alphas"]["normal"], rtol=1e-6)


@pytest.mark.slow
def test_on_a_supernet_it_is_the_slope_of_the_validation_loss_after_a_step(key):
    net, data = tiny.supernet("nasbench201", channels=2), tiny.dataset(8)
    state, images = tiny.state(net, key), (data.images / 255.0 - 0.5) * 2
    train, valid = Batch(images[:4], data.labels[:4], key), Batch(images[4:], data.labels[4:], key)
    gradient = functools.cache(lambda *names: jax.jit(bilevel.make_gradient(net, names)))
    rate, settings = 0.01, {"momentum": MOMENTUM, "weight_decay": DECAY}
    makers = {how: ALPHA_GRADIENTS[how](gradient, jax.jit, **settings) for how in ("off", "exact")}
    found = {how: make(state, train, valid, rate)[0]["alphas"]["normal"] for how, make in makers.items()}

    @jax.jit
    def loss_ahead(alphas):
        moved = state.replace(alphas={"normal": alphas})
        step = gradient("params")(moved, train)[0]["params"]  # no momentum yet
        params = jax.tree.map(lambda w, g: w - rate * (g + DECAY * w), state.params, step)
        weights = architecture.edge_weights(net.space, moved.alphas, state.decisions)
        metrics, _ = bilevel.forward(
            net, {**state.variables, "params": params}, weights, valid.images, valid.labels, key, True
        )
        return metrics.loss / 4

    direction = np.asarray(found["exact"] / jnp.linalg.norm(found["exact"]))
    above, below = (loss_ahead(state.alphas["normal"] + s * RADIUS * direction) for s in (1, -1))
    slope = float((above - below) / (2 * RADIUS))
    assert slope == pytest.approx(float(jnp.vdot(found["exact"], direction)), rel=0.02)
    assert abs(float(jnp.vdot(found["off"], direction)) - slope) > 0.05 * slope, "the second order matters here"

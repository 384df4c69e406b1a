import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from darts_pt_jax import bilevel, devices, ops, supervised
from darts_pt_jax.bilevel import Batch
from darts_pt_jax.metrics import Metrics
from tests import tiny


def test_weight_optimizer_clips_then_decays_then_applies_momentum(rng):
    optimizer = bilevel.weight_optimizer(momentum=0.9, weight_decay=3e-4, clip=5.0)
    w = rng.standard_normal(10).astype(np.float32)
    state, velocity = optimizer.init(jnp.asarray(w)), np.zeros(10)
    for scale in (0.1, 10.0, 100.0):
        gradient = scale * rng.standard_normal(10)
        update, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, jnp.asarray(w))
        clipped = gradient * min(1, 5 / np.linalg.norm(gradient))
        velocity = 0.9 * velocity + clipped + 3e-4 * w
        np.testing.assert_allclose(update, velocity, rtol=1e-5)


def test_alpha_optimizer_is_adam_with_coupled_decay(rng):
    optimizer = bilevel.alpha_optimizer(3e-4, 1e-3)
    alpha = rng.standard_normal(6)
    state, m, v = optimizer.init(jnp.asarray(alpha, jnp.float32)), np.zeros(6), np.zeros(6)
    for t in range(1, 4):
        gradient = rng.standard_normal(6)
        update, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, jnp.asarray(alpha, jnp.float32))
        g = gradient + 1e-3 * alpha
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g * g
        expected = -3e-4 * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(update, expected, rtol=1e-4)


def test_the_last_learning_rate_of_50_epochs_equals_the_reference():
    schedule = optax.cosine_decay_schedule(0.025, 50, 0.001 / 0.025)
    assert float(schedule(0)) == pytest.approx(0.025)
    assert float(schedule(49)) == pytest.approx(0.00102368, abs=1e-8)


def step(gradient, update):
    """A compiled step: the next state, and the metrics of its pass."""

    def one(state, images, labels, key, *args):
        gradients, metrics, stats = gradient(state, Batch(images, labels, key))
        return update(state, gradients, stats, *args), metrics

    return jax.jit(one)


def test_a_shared_gradient_equals_the_separate_gradients(key):
    net, data = tiny.supernet("tiny"), tiny.dataset()
    state, batch = tiny.state(net, key), Batch((data.images / 255.0 - 0.5) * 2, data.labels, key)

    @jax.jit
    def gradients(state):
        sides = ("params", "alphas"), ("params",), ("alphas",)
        return [bilevel.make_gradient(net, names)(state, batch) for names in sides]

    both, *alone = gradients(state)
    assert both[0].keys() == {"params", "alphas"}
    for (values, metrics, stats), name in zip(alone, ("params", "alphas"), strict=True):
        assert values.keys() == {name}
        for one, two in (values[name], both[0][name]), (metrics, both[1]), (stats, both[2]):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, two)


def test_each_step_changes_only_its_parameters_and_lowers_the_loss(key):
    net, data = tiny.supernet("tiny"), tiny.dataset()
    weight_optimizer, alpha_optimizer = bilevel.weight_optimizer(), bilevel.alpha_optimizer(0.1)
    state = bilevel.init_state(net, key, (8, 8, 2), weight_optimizer, alpha_optimizer)
    state = state.replace(decisions=state.decisions.choose("normal", 1, 0))
    images = (data.images / 255.0 - 0.5) * 2
    gradient = bilevel.make_gradient(net, ("params", "alphas"))

    def stepping(update):
        def step(state, images, labels, key, *args):
            gradients, metrics, stats = gradient(state, Batch(images, labels, key))
            return update(state, gradients, stats, *args), metrics

        return jax.jit(step)

    alpha_step = stepping(bilevel.make_alpha_update(alpha_optimizer))
    weight_step = stepping(bilevel.make_weight_update(weight_optimizer))

    after_alpha, first = alpha_step(state, images, data.labels, key)
    same = jax.tree.map(np.array_equal, state.params, after_alpha.params)
    assert all(jax.tree.leaves(same)) and not np.array_equal(state.alphas["normal"], after_alpha.alphas["normal"])
    for _ in range(4):
        after_alpha, last = alpha_step(after_alpha, images, data.labels, key)
    assert last.loss < first.loss

    after, first = weight_step(state, images, data.labels, key, 0.025)
    assert np.array_equal(state.alphas["normal"], after.alphas["normal"])
    assert first.images == 32 and 0 <= first.correct <= 32
    for _ in range(8):
        after, last = weight_step(after, images, data.labels, key, 0.025)
    assert last.loss < 0.9 * first.loss
    assert not np.array_equal(state.batch_stats["stem_norm"]["mean"], after.batch_stats["stem_norm"]["mean"])


@pytest.mark.parametrize("space", ["tiny", "nasbench201"])
def test_fresh_weights_follow_the_operations_and_differ_by_edge_and_key(space, key):
    net = tiny.supernet(space)
    state = tiny.state(net, key)
    groups = [g for g in net.space.cells["normal"].groups if g.operation == "nor_conv_1x1"]
    alone = ops.OPERATIONS["nor_conv_1x1"](4).init(key, jnp.zeros((1, 8, 8, 4)), True)["params"]
    for group in groups:
        rows = state.params["cells_0"][group.label]
        shapes = jax.tree.map(lambda leaf, group=group: (len(group.edges), *leaf.shape), alone)
        assert jax.tree.map(jnp.shape, rows) == shapes
    kernels = np.concatenate([np.ravel(state.params["cells_0"][g.label]["block"]["conv"]["kernel"]) for g in groups])
    assert len(set(kernels.tolist())) == kernels.size > 16 and 0.4 < abs(kernels).max() <= 0.5, "U(-b, b), b^2 = 1/4"
    other = tiny.state(net, jax.random.key(1))
    assert not np.array_equal(state.params["head"]["kernel"], other.params["head"]["kernel"])
    again = tiny.state(net, key)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, state, again)))


def test_alphas_of_scale_zero_are_zero(key):
    net = tiny.supernet("tiny")
    state = bilevel.init_state(net, key, (8, 8, 2), bilevel.weight_optimizer(), bilevel.alpha_optimizer(), 0.0)
    assert not any(a.any() for a in state.alphas.values())


@pytest.mark.parametrize("loss", [1.0, np.nan])
def test_an_update_in_stacks_is_that_of_each_array(loss, rng, monkeypatch):
    shapes = {**{f"small_{i}": (4,) for i in range(35)}, "kernel": (3, 3, 4), "other": (3, 3, 4)}

    def drawn():
        return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    optimizer = bilevel.weight_optimizer(clip=1.0)
    params, gradients, statistics = drawn(), {"params": drawn()}, [{"cell": drawn()} for _ in range(2)]
    state = supervised.RetrainState(params, statistics[0], optimizer.init(params))
    update = bilevel.guarded(bilevel.make_weight_update(optimizer), "params")
    metrics = Metrics.zero().replace(loss=jnp.float32(loss))
    args = state, Metrics.zero(), gradients, metrics, statistics[1], 0.1
    results, stacks = [], []
    for platform in ("cpu", "gpu"):
        monkeypatch.setattr(devices, "platform", lambda platform=platform: platform)
        traced = jax.jit(lambda *args: update(*args)).trace(*args)
        stacks.append("[16,4]" in str(traced.jaxpr))
        results.append(traced.lower().compile()(*args))
    assert stacks == [False, True]
    (plain, _), (stacked, total) = results
    chex.assert_trees_all_close(plain, stacked, rtol=1e-6)
    finite = not np.isnan(loss)
    chex.assert_trees_all_equal(stacked.batch_stats, statistics[1] if finite else statistics[0])
    assert np.array_equal(stacked.params["kernel"], params["kernel"]) != finite and np.isfinite(total.loss) == finite

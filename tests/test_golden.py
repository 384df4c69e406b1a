"""Operations, supernets and discrete networks against PyTorch's own layers under the same weights (tests/golden/make.py)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from darts_pt_jax import bilevel, ops, supervised
from darts_pt_jax.interop import published
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.network import Network, multiply_adds
from darts_pt_jax.spaces import SPACES
from darts_pt_jax.supernet import Supernet
from tests.golden import make
from tests.tiers import all_slow_but

TOLERANCES = {"operation": (1e-5, 1e-5), "supernet": (1e-4, 1e-3), "network": (1e-4, 1e-3), "steps": (1e-3, 1e-3)}
"""By kind of case, the largest difference of outputs and of gradients, relative to the largest entry of the array."""


@pytest.fixture(scope="module")
def golden():
    with np.load(make.FILE) as file:
        return dict(file)


def loss_of(case, outputs):
    total = 0.0
    for y in outputs:
        if y.ndim == 2:
            total += optax.softmax_cross_entropy_with_integer_labels(y, make.labels(len(y))).mean()
        else:
            total += (y * make.draw(f"direction/{case}", y.shape)).mean()
    return total


def compare(golden, case, apply, init, images, others):
    """Compares outputs and gradients of `apply(variables, images, others)` with those of a case."""
    shapes = jax.eval_shape(init)
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: make.draw("/".join(p.key for p in path), leaf.shape), shapes.get("params", {})
    )
    stats = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.get("batch_stats", {}))

    @jax.jit
    def run(params, images, others):
        def loss(params, images, others):
            outputs = apply({"params": params, "batch_stats": stats}, images, others)
            return loss_of(case, outputs), outputs

        gradients, outputs = jax.grad(loss, (0, 1, 2), has_aux=True)(params, images, others)
        return gradients, outputs

    (param_gradients, image_gradient, other_gradients), outputs = run(params, images, others)
    ours = {f"{case} output {i}": y for i, y in enumerate(outputs)}
    gradients = {"images": image_gradient, **{f"weights/{k}": g for k, g in other_gradients.items()}}
    for path, leaf in jax.tree_util.tree_leaves_with_path(param_gradients):
        gradients["params/" + "/".join(p.key for p in path)] = leaf
    ours |= {f"{case} gradient {name}": make.thinned(np.asarray(g)) for name, g in gradients.items()}
    theirs = {name: value for name, value in golden.items() if name.startswith(f"{case} ")}
    if f"{case} gradient images" not in theirs:
        ours.pop(f"{case} gradient images")
    assert ours.keys() == theirs.keys()
    output_limit, gradient_limit = TOLERANCES[case.partition(" ")[0]]
    for name, value in theirs.items():
        limit = output_limit if " output " in name else gradient_limit
        np.testing.assert_allclose(ours[name], value, atol=limit * max(abs(value).max(), 1e-3), rtol=0, err_msg=name)


@pytest.mark.parametrize("case", make.OPERATION_CASES, ids=str)
def test_an_operation_equals_pytorch(golden, case):
    name, stride, affine = case
    module, golden_case = (
        ops.OPERATIONS[name](make.CHANNELS, stride, affine, not affine),
        f"operation {name} {stride} {affine}",
    )
    images = make.draw(f"images/{golden_case}", (make.BATCH, 8, 8, make.CHANNELS))
    apply = lambda v, x, _: [module.apply(v, x, True, mutable=["batch_stats"])[0]]  # noqa: E731
    compare(golden, golden_case, apply, lambda: module.init(jax.random.key(0), images, True), images, {})


@pytest.mark.parametrize("name", all_slow_but(["nasbench201"], make.SUPERNETS))
def test_a_supernet_equals_pytorch(golden, name):
    (cells, size), space = make.SUPERNETS[name], SPACES[name]
    net = Supernet(space, cells, make.CHANNELS, make.CLASSES)
    images = make.draw(f"images/supernet {name}", (make.BATCH, size, size, 3))
    weights = {kind: make.edge_weights(kind, graph.candidate_mask) for kind, graph in space.cells.items()}
    apply = lambda v, x, w: [net.apply(v, x, w, True, mutable=["batch_stats"])[0]]  # noqa: E731
    compare(
        golden, f"supernet {name}", apply, lambda: net.init(jax.random.key(0), images, weights, True), images, weights
    )


@pytest.mark.parametrize("name", make.NETWORKS)
def test_a_discrete_network_equals_pytorch(golden, name):
    form, cells, size = make.NETWORKS[name]
    net = Network(published.find(name), form, cells, make.CHANNELS, make.CLASSES, form != "nasbench201")
    images = make.draw(f"images/network {name}", (make.BATCH, size, size, 3))
    rngs = dict.fromkeys(("params", "dropout", "noise"), jax.random.key(0))

    def apply(variables, x, _):
        outputs, _ = net.apply(variables, x, True, mutable=["batch_stats"], rngs={"dropout": rngs["dropout"]})
        return [y for y in outputs if y is not None]

    compare(golden, f"network {name}", apply, functools.partial(net.init, rngs, jnp.asarray(images), True), images, {})


@pytest.mark.parametrize("name", make.NETWORKS)
def test_multiply_adds_equal_those_of_pytorch_convolutions(golden, name):
    form, cells, size = make.NETWORKS[name]
    net = Network(published.find(name), form, cells, make.CHANNELS, make.CLASSES)
    head_count = 0
    if form != "nasbench201":  # PyTorch's count includes the auxiliary head, on 2 x 2 pixels
        width = 4 * make.CHANNELS * 4
        head_count = 4 * width * 128 + 4 * 128 * 768 + (768 + 1) * make.CLASSES
    assert multiply_adds(net, (size, size, 3)) + head_count == golden[f"multiply-adds {name}"]


@pytest.mark.slow
def test_two_steps_of_retraining_equal_pytorch(golden):
    name = next(iter(make.NETWORKS))
    form, cells, size = make.NETWORKS[name]
    net = Network(published.find(name), form, cells, make.CHANNELS, make.CLASSES, auxiliary=True)
    images = make.draw(f"images/network {name}", (make.BATCH, size, size, 3))
    optimizer = bilevel.weight_optimizer(make.STEPS["momentum"], make.STEPS["weight_decay"], make.STEPS["clip"])
    state = supervised.init_state(net, jax.random.key(0), (size, size, 3), optimizer)
    drawn = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(make.draw("/".join(p.key for p in path), leaf.shape)), state.params
    )
    state = state.replace(params=drawn)
    gradient = jax.jit(supervised.make_gradient(net, make.STEPS["auxiliary"], make.STEPS["smoothing"]))
    update = jax.jit(bilevel.guarded(bilevel.make_weight_update(optimizer), "params"))
    total = Metrics.zero()
    for _ in range(2):
        batch_gradient = gradient(state, images, make.labels(make.BATCH), jax.random.key(0), jnp.float32(0))
        state, total = update(state, total, *batch_gradient, make.STEPS["learning_rate"])
    changes = jax.tree.map(lambda after, before: np.asarray(after - before), state.params, drawn)
    compared = 0
    for path, change in jax.tree_util.tree_leaves_with_path(changes):
        value = golden["steps " + "/".join(p.key for p in path)]
        limit = TOLERANCES["steps"][0] * max(abs(value).max(), 1e-3)
        np.testing.assert_allclose(make.thinned(change), value, atol=limit, rtol=0, err_msg=str(path))
        compared += 1
    assert compared == sum(key.startswith("steps ") for key in golden)

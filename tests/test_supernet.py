import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.bilevel import Batch
from darts_pt_jax.data.batches import Dataset
from darts_pt_jax.selection import scoring, strategies
from darts_pt_jax.spaces import DARTS_OPERATIONS, S1_NORMAL, S1_REDUCE, SearchSpace, dag
from darts_pt_jax.supernet import Supernet
from tests import tiny
from tests.tiers import all_slow_but


def logits(net, state, weights, images, key):
    out, _ = net.apply(state.variables, images, weights, True, mutable=["batch_stats"], rngs={"noise": key})
    return out


@pytest.mark.parametrize("space", ["tiny", "nasbench201"])
def test_weights_enter_linearly_at_the_last_node(space, key):
    """An edge of weight zero adds nothing, whatever its parameters."""
    net = tiny.supernet(space)
    state = tiny.state(net, key)
    weights = tiny.weights(net, state)
    edge, candidate = 1, net.space.cells["normal"].edges[1].candidates.index("nor_conv_1x1")
    masked = weights | {"normal": weights["normal"].at[edge, candidate].set(0)}
    images = jax.random.normal(key, (8, 8, 8, 2))

    def changed(path, leaf):
        cell, label, *_ = names = [p.key for p in path]
        edges = net.edges_of(names)
        here = cell == "cells_0" and "nor_conv_1x1" in label and edge in edges
        return leaf.at[edges.index(edge)].add(1) if here else leaf

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

    numerical = (loss(2e-3) - loss(-2e-3)) / 4e-3
    np.testing.assert_allclose(jax.grad(loss)(0.0), numerical, rtol=5e-3)


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


def small(name, normal, reduce):
    """Two nodes a cell, a reduction cell before a normal one."""
    cells = {"normal": dag(2, 2, normal), "reduce": dag(2, 2, reduce, reduction=True)}
    return SearchSpace(f"small {name}", cells, lambda cells: ("reduce", "normal"), stem_multiplier=1)


# Compilation takes nearly all of the time, so these spaces are as small as possible. They have every operation, and groups
# of one edge, of two edges, and of unequal candidates at both strides.
SOME, OTHERS = DARTS_OPERATIONS[:4], DARTS_OPERATIONS[4:]
DARTS = {0: SOME, 1: OTHERS, 2: SOME, 3: OTHERS, 4: ("sep_conv_3x3", "dil_conv_3x3")}
SMALL = {
    "darts": small("darts", DARTS, DARTS),
    "s1": small("s1", S1_NORMAL, S1_REDUCE),
    "s4": small("s4", ("noise", "sep_conv_3x3"), ("noise", "sep_conv_3x3")),
    "tiny": tiny.SPACE,
    "nasbench201": tiny.BENCH,
}


def both_forms(net, program, *args):
    """The results of `program(net, state, *args)` with a supernet and with its plain form."""
    state = tiny.state(net, jax.random.key(5))
    forms = net, net.clone(plain=True)
    return [jax.device_get(jax.jit(lambda *args, form=form: program(form, *args))(state, *args)) for form in forms]


def same_to_rounding(one, two, tolerance=1e-4):
    """Compares relative to the largest number of each array, plus a millionth of the largest of all."""
    assert jax.tree.structure(one) == jax.tree.structure(two)
    largest = max(abs(leaf).max() for leaf in jax.tree.leaves(two))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two), strict=True):
        limit = tolerance * abs(b).max() + 1e-6 * largest
        np.testing.assert_allclose(a, b, rtol=0, atol=limit, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("space", all_slow_but(["tiny"], SMALL))
def test_gradients_and_their_derivatives_in_the_alphas_equal_the_plain_form(space, key):
    net = Supernet(SMALL[space], 1, 2, 3)
    images, labels = jax.random.normal(key, (4, 8, 8, 2)), jnp.arange(4) % 3

    def program(net, state, images, labels, direction):
        gradient = bilevel.make_gradient(net, ("params", "alphas"))

        def gradient_at(alphas):
            gradients, metrics, stats = gradient(state.replace(alphas=alphas), Batch(images, labels, key))
            return gradients, (metrics.loss, stats)

        gradients, change, (loss, stats) = jax.jvp(gradient_at, (state.alphas,), (direction,), has_aux=True)
        return {"gradients": gradients, "change": change}, {"loss": loss, "stats": stats}

    direction = architecture.init_alphas(net.space, jax.random.key(6), 1.0)
    (one, one_stats), (two, two_stats) = both_forms(net, program, images, labels, direction)
    same_to_rounding(one_stats, two_stats)
    for name in ("gradients", "change"):
        for part in ("params", "alphas"):
            same_to_rounding(one[name][part], two[name][part])
            assert max(abs(leaf).max() for leaf in jax.tree.leaves(two[name][part])) > 1e-3


@pytest.mark.parametrize("space", all_slow_but(["tiny"], ["darts", "tiny", "nasbench201"]))
def test_rematerialised_cells_keep_less_and_give_the_same_gradients(space, key):
    net = Supernet(SMALL[space], 1, 2, 3)
    state, labels = tiny.state(net, key), jnp.arange(4) % 3
    images, weights = jax.random.normal(key, (4, 8, 8, 2)), tiny.weights(net, state)

    def gradients(net):
        gradient = jax.jit(bilevel.make_gradient(net, ("params", "alphas")))
        return jax.device_get(gradient(state, Batch(images, labels, key)))

    def kept(net):
        def loss(params):
            return bilevel.forward(net, {**state.variables, "params": params}, weights, images, labels, key, True)[
                0
            ].loss

        jaxpr = jax.make_jaxpr(lambda params: jax.vjp(loss, params)[1])(state.params)
        return sum(variable.aval.size for variable in set(jaxpr.jaxpr.outvars) - set(jaxpr.jaxpr.invars))

    same_to_rounding(gradients(net.clone(remat=True)), gradients(net), 1e-5)
    assert kept(net.clone(remat=True)) < kept(net) / 2


@pytest.mark.parametrize("space", all_slow_but(["tiny"], SMALL))
def test_logits_statistics_and_scores_equal_the_plain_form(space, key):
    net = Supernet(SMALL[space], 1, 2, 3)
    images, labels = jax.random.randint(key, (4, 8, 8, 2), 0, 256).astype(jnp.uint8), jnp.arange(4) % 3
    half = np.full(2, 0.5, np.float32)
    edge = next(e for e, edge in enumerate(net.space.cells["normal"].edges) if len(edge.candidates) > 1)
    masks = jnp.asarray(strategies.without_operations(net.space, "normal", edge)[:3])

    def program(net, state, images, labels, masks):
        weights, x = tiny.weights(net, state), (images / 255.0 - 0.5) / 0.5
        logits, updated = net.apply(state.variables, x, weights, True, mutable=["batch_stats"], rngs={"noise": key})
        trained = {"params": state.params, **updated}
        running, kept = net.apply(trained, x, weights, False, mutable=["batch_stats"], rngs={"noise": key})
        batch = Dataset(images, labels, half, half, 0, False), jnp.arange(4), key
        scores = [
            scoring.make_scorer(bilevel.make_evaluate(net, batch_statistics, False), "normal")(
                trained, weights, masks, batch
            )[0].loss
            for batch_statistics in (True, False)
        ]
        return {"logits": logits, "running": running, "scores": scores, "stats": updated["batch_stats"]}, kept

    (one, one_kept), (two, two_kept) = both_forms(net, program, images, labels, masks)
    same_to_rounding(one, two)
    for kept, stats in ((one_kept, one), (two_kept, two)):
        jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], stats["stats"])
    assert not np.allclose(two["logits"], two["running"], atol=1e-3)
    assert all(np.ptp(scores) > 1e-4 for scores in two["scores"]), "masks matter"


def test_logits_and_statistics_of_a_published_space_equal_the_plain_form(key):
    images = jax.random.normal(key, (4, 8, 8, 2))

    def program(net, state, images):
        return net.apply(state.variables, images, tiny.weights(net, state), True, mutable=["batch_stats"])

    same_to_rounding(*both_forms(tiny.supernet("s1", channels=2), program, images))

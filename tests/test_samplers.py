"""How alphas become edge weights. SDARTS' perturbations stay in their box, sum to one, and keep decided rows."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.bilevel import Batch, Draw
from darts_pt_jax.experiments.config.rules import check
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.training.steps import _perturbation
from darts_pt_jax.samplers import SAMPLERS, make_sampler, sdarts
from darts_pt_jax.samplers.regularisers import REGULARISERS
from darts_pt_jax.spaces import SPACES
from tests import tiny

EPSILON = 0.3
PERTURBED = ["sdarts_rs", "sdarts_rs_gaussian", "sdarts_adv"]


def made(name):
    """A sampler with the defaults of the config."""
    return make_sampler(name, vars(Config().search) | {"epsilon": EPSILON})


@pytest.fixture(scope="module")
def searched():
    """A supernet, its state with one edge decided and one removed, a training batch, and the unperturbed edge weights."""
    net, data = tiny.supernet("tiny"), tiny.dataset()
    state = tiny.state(net, jax.random.key(3))
    state = state.replace(decisions=state.decisions.choose("normal", 1, 2).remove("reduce", [4]))
    batch = Batch((data.images / 255.0 - 0.5) * 2, data.labels, jax.random.key(0))
    return net, state, batch, tiny.weights(net, state)


def perturbed(searched, name, epsilon=EPSILON, key=0):
    net, state, batch, _ = searched
    return jax.device_get(_perturbation(net, made(name), jax.jit, False)(state, batch, jax.random.key(key), epsilon))


@pytest.mark.parametrize("space", ["tiny", "nasbench201"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_weighs_only_candidates_and_passes_a_gradient_to_open_edges(name, space):
    space, sampler = SPACES[space], made(name)
    assert sampler.learns == (name != "fixed")
    alphas = sampler.init(space, jax.random.key(1), 1.0)
    kind = next(iter(space.cells))
    decisions = architecture.undecided(space).choose(kind, 0, 1).remove(kind, [2])

    def weigh(alphas):
        if not sampler.sample:
            return sampler.weights(space, alphas, decisions)
        state = sampler.init_state(space)
        return sampler.drawn(space, alphas, decisions, jax.random.key(2), 0.5, state)

    weights, back = jax.vjp(weigh, alphas)
    for of, graph in space.cells.items():
        assert not np.asarray(weights[of])[~graph.candidate_mask].any()
        if name != "fairdarts":
            open_edges = np.flatnonzero(decisions.open(of))
            total = sampler.edges(space, alphas)[of] if sampler.edges else np.ones(len(graph.edges))
            np.testing.assert_allclose(weights[of].sum(-1)[open_edges], total[open_edges], rtol=1e-5)
    assert np.count_nonzero(weights[kind][0]) == 1 and not np.asarray(weights[kind][2]).any()
    cotangent = {of: jax.random.normal(jax.random.key(3), row.shape) for of, row in weights.items()}
    (slope,) = back(cotangent)
    for of, graph in space.cells.items():
        own = np.asarray(slope[of])[:, : graph.width]
        assert np.isfinite(slope[of]).all() and not own[~graph.candidate_mask].any()
        assert (own[np.asarray(decisions.open(of))] != 0).any(-1).all() and not own[
            ~np.asarray(decisions.open(of))
        ].any()


def test_epsilon_grows_linearly_through_the_search():
    schedule = made("sdarts_rs").schedule
    assert [schedule(progress) for progress in (0, 0.5, 1)] == pytest.approx([0.03, 0.165, 0.3])


@pytest.mark.parametrize("name", PERTURBED)
def test_rows_sum_to_one_and_decided_rows_do_not_change(searched, name):
    net, _, _, clean = searched
    weights = perturbed(searched, name)
    for kind, graph in net.space.cells.items():
        rows = np.ones(len(graph.edges), bool)
        rows[{"normal": 1, "reduce": 4}[kind]] = False
        assert (weights[kind] >= 0).all() and not weights[kind][~graph.candidate_mask].any()
        np.testing.assert_allclose(weights[kind][rows].sum(1), 1, rtol=1e-5)
        assert np.array_equal(weights[kind][~rows], np.asarray(clean[kind])[~rows])
        assert (weights[kind] != np.asarray(clean[kind]))[rows].any(1).all()
    again, other = perturbed(searched, name), perturbed(searched, name, key=1)
    assert np.array_equal(weights["normal"], again["normal"]) and not np.array_equal(weights["normal"], other["normal"])


@pytest.mark.parametrize("name", ["sdarts_rs", "sdarts_adv"])
@pytest.mark.parametrize("epsilon", [0.03, 0.3])
def test_before_normalisation_no_weight_moves_by_more_than_epsilon(searched, name, epsilon):
    net, _, _, clean = searched
    furthest = 0
    for key in range(3):
        weights = perturbed(searched, name, epsilon, key)
        for kind, graph in net.space.cells.items():
            for row, start, mask in zip(weights[kind], np.asarray(clean[kind]), graph.candidate_mask, strict=True):
                row, start = row[mask], start[mask]
                low = np.divide(start - epsilon, row, out=np.full(len(row), -np.inf), where=row > 0).max()
                high = np.divide(start + epsilon, row, out=np.full(len(row), np.inf), where=row > 0).min()
                assert (start[row == 0] <= epsilon + 1e-6).all()
                assert low <= high * (1 + 1e-5), "for some sum of the row, every weight is in its box"
                furthest = max(furthest, abs(row - start).max())
    assert furthest > epsilon / 2


def test_a_row_is_clipped_divided_by_its_sum_and_never_empty():
    space, width = SPACES["s3"], 3
    rows = np.tile(np.float32([0.2, 0.3, 0.5]), (14, 1))
    rows[0], rows[1], rows[2] = [-0.1, 0.5, 1.2], [-0.3, -0.1, -0.2], [0.25, 0.25, 0.5]
    result = sdarts.project(space, {"normal": jnp.asarray(rows), "reduce": jnp.asarray(rows)})
    expected = [[0, 0.5 / 1.5, 1 / 1.5], [0, 1, 0], [0.25, 0.25, 0.5]]
    np.testing.assert_allclose(result["normal"][:3], expected, rtol=1e-6)
    assert result["reduce"].shape == (14, width)


def test_gaussian_noise_has_the_deviation_of_epsilon_on_the_alphas(searched):
    net, state, _, _ = searched
    perturb = _perturbation(net, made("sdarts_rs_gaussian"), jax.jit, False)
    draw = lambda key: perturb(state, None, key, EPSILON)["reduce"]  # noqa: E731
    weights = np.stack([draw(jax.random.key(i)) for i in range(300)])[:, 0]  # an open edge of two candidates
    gaps = np.log(weights[:, 0] / weights[:, 1])  # the difference of two alphas
    mean = float(state.alphas["reduce"][0, 0] - state.alphas["reduce"][0, 1])
    assert gaps.mean() == pytest.approx(mean, abs=0.1) and gaps.std() == pytest.approx(EPSILON * 2**0.5, rel=0.15)


def test_the_attack_raises_the_loss_more_than_noise_does(searched):
    net, state, batch, clean = searched

    @jax.jit
    def loss(weights):
        images, labels, key = batch.images, batch.labels, batch.noise_key
        return bilevel.forward(net, state.variables, weights, images, labels, key, False)[0].loss

    attacked = [float(loss(perturbed(searched, "sdarts_adv", key=i))) for i in range(3)]
    noisy = [float(loss(perturbed(searched, "sdarts_rs", key=i))) for i in range(3)]
    assert min(attacked) > float(loss(clean)) and min(attacked) > max(noisy)


def test_its_steps_in_a_scan_equal_those_of_a_loop(searched):
    net, state, batch, _ = searched
    attack = _perturbation(net, made("sdarts_adv"), lambda f: f, True)
    scanned = jax.jit(lambda state: attack(state, batch, jax.random.key(0), EPSILON))
    for one, two in zip(
        jax.tree.leaves(scanned(state)), jax.tree.leaves(perturbed(searched, "sdarts_adv")), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_if_nothing_raises_the_loss_the_weights_stay(searched):
    net, state, batch, clean = searched
    flat = jax.tree.map(jnp.zeros_like, state.params)  # logits of zero, whatever the edge weights
    attack = _perturbation(net, made("sdarts_adv"), jax.jit, False)
    weights = attack(state.replace(params=flat), batch, jax.random.key(0), EPSILON)
    assert all(np.array_equal(weights[kind], clean[kind]) for kind in clean)


def test_decided_rows_are_one_hot_whatever_the_weights():
    space = SPACES["s3"]
    decisions = architecture.undecided(space).choose("normal", 3, 2).remove("normal", [5])
    rows = {kind: jnp.full((14, 3), 0.4) for kind in space.cells}
    decided = architecture.decided(rows, decisions)
    assert decided["normal"][3].tolist() == [0, 0, 1] and decided["normal"][5].tolist() == [0, 0, 0]
    assert np.delete(decided["normal"], [3, 5], 0).min() == np.float32(0.4) == decided["reduce"].min()


def test_a_sampler_may_draw_for_alpha_steps_too(searched):
    """With a draw that halves the alphas, the gradient follows from the chain rule."""
    net, state, batch, _ = searched

    def halved(space, alphas, key, level, state):
        return architecture.mixtures(space, jax.tree.map(lambda row: level * row, alphas))

    sampler = dataclasses.replace(SAMPLERS["darts"](), sample=halved)
    drawn = bilevel.make_gradient(net, ("alphas",), sampler)(state, batch, None, Draw(jax.random.key(0), 0.5))
    scaled = state.replace(alphas=jax.tree.map(lambda row: 0.5 * row, state.alphas))
    plain = bilevel.make_gradient(net, ("alphas",))(scaled, batch)
    for kind, gradient in drawn[0]["alphas"].items():
        np.testing.assert_allclose(gradient, 0.5 * plain[0]["alphas"][kind], rtol=1e-4, atol=1e-7)


def test_a_regulariser_adds_its_gradient_to_that_of_the_alphas(searched):
    _, state, *_ = searched

    def penalty(alphas):
        return sum(jnp.square(row).sum() for row in alphas.values())

    descent = optax.scale(-1.0)
    state = state.replace(alpha_optimizer=descent.init(state.alphas))
    gradients = {"alphas": jax.tree.map(lambda row: 0.1 * jnp.ones_like(row), state.alphas)}
    moved = bilevel.make_alpha_update(descent, penalty)(state, gradients, state.batch_stats, 3.0)
    for kind, row in state.alphas.items():
        expected = np.where(state.decisions.open(kind)[:, None], row - 0.1 - 3 * 2 * row, row)
        np.testing.assert_allclose(moved.alphas[kind], expected, rtol=1e-5, atol=1e-6)


def drawn_rows(name, row, level=0.1):
    """4,200 draws [N, 3] of edges with three candidates of alphas `row`."""
    space, sampler = SPACES["s3"], made(name)
    alphas = {kind: jnp.tile(jnp.float32(row), (14, 1)) for kind in space.cells}
    keys = jax.random.split(jax.random.key(5), 150)
    draws = jax.vmap(lambda key: sampler.sample(space, alphas, key, level, ()))(keys)
    return np.concatenate([np.asarray(of_kind).reshape(-1, 3) for of_kind in draws.values()])


def test_gdas_draws_an_operation_as_often_as_its_softmax_says():
    row = [0.0, 1.0, -0.5]
    draws = drawn_rows("gdas", row)
    assert sorted(np.unique(draws.round(5))) == [0, 1] and (draws.argmax(-1)[:, None] == np.arange(3)).sum() == len(
        draws
    )
    softmax = np.exp(row) / np.exp(row).sum()
    np.testing.assert_allclose(draws.mean(0), softmax, atol=4 * 0.5 / len(draws) ** 0.5)
    soft = drawn_rows("snas", row, level=0.1)
    assert (soft.argmax(-1) == draws.argmax(-1)).all() and (0.01 < soft).all(-1).any(), "the same draw, not rounded"


def test_gdas_passes_the_gradient_of_the_soft_draw():
    space, kinds = SPACES["s3"], list(SPACES["s3"].cells)
    alphas = {kind: jax.random.normal(jax.random.key(i), (14, 3)) for i, kind in enumerate(kinds)}
    weigh = {kind: jax.random.normal(jax.random.key(i + 7), (14, 3)) for i, kind in enumerate(kinds)}

    def slope(name):
        def value(alphas):
            weights = made(name).sample(space, alphas, jax.random.key(1), 2.0, ())
            return sum((weigh[kind] * weights[kind]).sum() for kind in kinds)

        return jax.grad(value)(alphas)

    for kind in kinds:
        np.testing.assert_allclose(slope("gdas")[kind], slope("snas")[kind], rtol=1e-5, atol=1e-7)


def test_temperatures_fall_linearly_through_the_search():
    schedule = make_sampler("gdas", {"temperature": 0.1, "temperature_first": 10.0}).schedule
    assert [schedule(progress) for progress in (0, 0.5, 1)] == pytest.approx([10, 5.05, 0.1])


def test_drnas_draws_from_the_dirichlet_distribution():
    row = [0.0, 1.0, -0.5]
    concentration = np.array([1.0, 2.0, np.exp(-0.5)])
    total = concentration.sum()
    mean, draws = concentration / total, drawn_rows("drnas", row)
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(draws.var(0), mean * (1 - mean) / (total + 1), rtol=0.1)
    space, sampler = SPACES["s3"], made("drnas")
    alphas = {kind: jnp.tile(jnp.float32(row), (14, 1)) for kind in space.cells}
    np.testing.assert_allclose(sampler.mean(space, alphas)["reduce"][3], mean, rtol=1e-6)


def test_the_gradient_through_drnas_draws_is_on_average_that_of_the_mean():
    space, sampler, alpha = SPACES["s3"], made("drnas"), jnp.float32([0.3, 1.0, -0.5])

    def weight(alpha, key):
        alphas = {kind: jnp.tile(alpha, (14, 1)) for kind in space.cells}
        drawn = sampler.sample(space, alphas, key, 0.0, ()) if key is not None else sampler.mean(space, alphas)
        return drawn["normal"][:, 1].mean()  # the mean of 14 edges with the same alphas

    keys = jax.random.split(jax.random.key(2), 300)
    slopes = np.asarray(jax.vmap(jax.grad(weight), (None, 0))(alpha, keys))
    error = slopes.std(0) / len(keys) ** 0.5
    assert (abs(slopes.mean(0) - jax.grad(weight)(alpha, None)) < 4 * error).all() and (error < 0.01).all()


def test_fairdarts_weighs_each_operation_by_itself():
    space = SPACES["s3"]
    alphas = {kind: jnp.zeros((14, 3)).at[0].set(jnp.float32([np.log(3), -np.log(3), 0])) for kind in space.cells}
    weights = made("fairdarts").mean(space, alphas)["normal"]
    np.testing.assert_allclose(weights[:2], [[0.75, 0.25, 0.5], [0.5, 0.5, 0.5]], rtol=1e-6)


def test_pc_darts_shares_a_node_among_its_edges_and_a_decided_edge_keeps_its_share():
    space, sampler = SPACES["s3"], made("pc_darts")
    alphas = {kind: jnp.zeros((14, 4)) for kind in space.cells}
    alphas["normal"] = alphas["normal"].at[0, -1].set(np.log(3))  # node 0 has the edges 0 and 1, node 1 has 2 to 4
    shares = sampler.edges(space, alphas)["normal"]
    np.testing.assert_allclose(shares[:5], [0.75, 0.25, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(shares[5:], [1 / 4] * 4 + [1 / 5] * 5, rtol=1e-6)
    decisions = architecture.undecided(space).choose("normal", 0, 2).remove("normal", [3])
    weights = sampler.weights(space, alphas, decisions)["normal"]
    np.testing.assert_allclose(weights[:4], [[0, 0, 0.75], [1 / 12] * 3, [1 / 9] * 3, [0] * 3], rtol=1e-6)
    np.testing.assert_allclose(sampler.undecided(space, alphas)["normal"][0], [0.25] * 3, rtol=1e-6)


def test_regularisers_on_an_edge_worked_out_by_hand():
    space = tiny.CELL  # six edges of five candidates
    alphas = {"normal": jnp.zeros((6, 5)).at[0, 0].set(np.log(6))}
    beta, zero_one = REGULARISERS["beta_decay"], REGULARISERS["zero_one"]
    assert float(beta.penalty(space, alphas)) == pytest.approx((np.log(10) + 5 * np.log(5)) / 6)
    assert float(zero_one.penalty(space, alphas)) == pytest.approx(-((6 / 7 - 0.5) ** 2) / 30)
    slope = jax.grad(beta.penalty, 1)(space, alphas)["normal"]
    np.testing.assert_allclose(slope, architecture.mixtures(space, alphas)["normal"] / 6, rtol=1e-6)
    wider = {"normal": jnp.concatenate([alphas["normal"], jnp.full((6, 1), 7.0)], 1)}  # as pc_darts has them
    for one in (beta, zero_one):
        assert float(one.penalty(space, wider)) == float(one.penalty(space, alphas))
    assert [beta.weight(50, progress) for progress in (0, 0.5)] == [0, 25]
    assert [zero_one.weight(10, progress) for progress in (0, 0.5)] == [10, 10]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"search.alpha_regulariser": "beta_decay"}, "search.alpha_regulariser is 'beta_decay' and its weight 0"),
        ({"search.alpha_regulariser_weight": 1.0}, "search.alpha_regulariser is 'none' and its weight 1"),
        ({"search.alpha_start": 50}, "search.alpha_start is 50, expected less than search.epochs"),
        (
            {
                "search.alpha": "fixed",
                "search.alpha_regulariser": "zero_one",
                "search.alpha_regulariser_weight": 1.0,
                "select.method": "perturbation",
            },
            "search.alpha_regulariser is 'zero_one', but search.alpha='fixed' trains no alphas",
        ),
        ({"select.method": "sgas", "search.sampler": "pc_darts"}, "those of search.sampler='pc_darts' do not"),
        ({"select.method": "sgas", "search.sampler": "fairdarts"}, "those of search.sampler='fairdarts' do not"),
        ({"supernet.channel_share": 3}, "supernet.channel_share is 3, expected a divisor of supernet.channels"),
    ],
)
def test_settings_of_samplers_that_do_nothing_are_refused(keys, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        check(Config().changed({"space": "s3", **keys}))


@pytest.mark.parametrize(
    "keys", [{"select.method": "magnitude"}, {"select.method": "sgas"}, {"search.unrolled": "exact"}]
)
def test_what_needs_trained_alphas_is_refused_where_they_rest(keys):
    for key, value in {"search.alpha": "fixed", "search.sampler": "fixed"}.items():
        config = Config().changed({"space": "s3", key: value, **keys})
        with pytest.raises(ConfigError, match=f"but {key}='{value}' (trains no alphas|leaves no magnitude)"):
            check(config)

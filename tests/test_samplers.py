"""How alphas become edge weights. SDARTS' perturbations stay in their box, sum to one, and keep decided rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.bilevel import Batch, Draw
from darts_pt_jax.samplers import SAMPLERS, make_sampler, sdarts
from darts_pt_jax.spaces import SPACES
from experiments.config.rules import check
from experiments.config.schema import Config
from experiments.errors import ConfigError
from experiments.training.steps import _perturbation
from tests import tiny

EPSILON = 0.3
PERTURBED = ["sdarts_rs", "sdarts_rs_gaussian", "sdarts_adv"]


def made(name):
    """A sampler with the defaults of the config."""
    return make_sampler(name, {"epsilon": EPSILON, "epsilon_first": 0.03, "momentum": 0.9})


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


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_weighs_only_candidates_and_sums_to_one(name, searched):
    net = searched[0]
    sampler = made(name)
    assert sampler.learns == (name != "fixed")
    alphas = sampler.init(net.space, jax.random.key(1), 1.0)
    draws = [sampler.mean(net.space, alphas)]
    if sampler.sample:
        draws.append(sampler.sample(net.space, alphas, jax.random.key(2), 0.1, sampler.init_state(net.space)))
    for weights in draws:
        for kind, graph in net.space.cells.items():
            assert not np.asarray(weights[kind])[~graph.candidate_mask].any()
            np.testing.assert_allclose(weights[kind].sum(-1), 1, rtol=1e-5)


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


def test_a_regulariser_adds_its_gradient_only_to_that_of_the_alphas(searched):
    net, state, batch, _ = searched

    def penalty(alphas):
        return sum(jnp.square(row).sum() for row in alphas.values())

    names = ("params", "alphas")
    plain, more = (bilevel.make_gradient(net, names, penalty=p)(state, batch)[0] for p in (None, penalty))
    for kind, row in state.alphas.items():
        np.testing.assert_allclose(more["alphas"][kind], plain["alphas"][kind] + 2 * row, rtol=1e-4, atol=1e-5)
    head = [gradient["params"]["head"]["kernel"] for gradient in (plain, more)]
    np.testing.assert_allclose(*head, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "keys", [{"select.method": "magnitude"}, {"select.method": "sgas"}, {"search.unrolled": "exact"}]
)
def test_what_needs_trained_alphas_is_refused_where_they_rest(keys):
    for key, value in {"search.alpha": "fixed", "search.sampler": "fixed"}.items():
        config = Config().changed({"space": "s3", key: value, **keys})
        with pytest.raises(ConfigError, match=f"but {key}='{value}' (trains no alphas|leaves no magnitude)"):
            check(config)

"""Perturbed edge weights: in their box, summing to one, decided rows as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from darts_pt_jax.methods import sdarts

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.spaces import SPACES
from tests import tiny

EPSILON = 0.3


@pytest.fixture(scope="module")
def searched():
    """A supernet, its state with one edge decided and one removed, a training batch, and the unperturbed edge weights."""
    net, data = tiny.supernet("tiny"), tiny.dataset()
    state = tiny.state(net, jax.random.key(3))
    state = state.replace(decisions=state.decisions.choose("normal", 1, 2).remove("reduce", [4]))
    batch = (data.images / 255.0 - 0.5) * 2, data.labels, jax.random.key(0)
    return net, state, batch, tiny.weights(net, state)


def perturbed(searched, how, epsilon=EPSILON, key=0):
    net, state, batch, _ = searched
    *same, weights = sdarts.PERTURBATIONS[how](net, jax.jit)(state, batch, jax.random.key(key), epsilon)
    assert all(one is two for one, two in zip(same, batch, strict=True))
    return jax.device_get(weights)


@pytest.mark.parametrize("how", ["uniform", "gaussian", "adversarial"])
def test_rows_sum_to_one_and_decided_ones_are_left_alone(searched, how):
    net, _, _, clean = searched
    weights = perturbed(searched, how)
    for kind, graph in net.space.cells.items():
        rows = np.ones(len(graph.edges), bool)
        rows[{"normal": 1, "reduce": 4}[kind]] = False
        assert (weights[kind] >= 0).all() and not weights[kind][~graph.candidate_mask].any()
        np.testing.assert_allclose(weights[kind][rows].sum(1), 1, rtol=1e-5)
        assert np.array_equal(weights[kind][~rows], np.asarray(clean[kind])[~rows])
        assert (weights[kind] != np.asarray(clean[kind]))[rows].any(1).all()
    again, other = perturbed(searched, how), perturbed(searched, how, key=1)
    assert np.array_equal(weights["normal"], again["normal"]) and not np.array_equal(weights["normal"], other["normal"])


@pytest.mark.parametrize("how", ["uniform", "adversarial"])
@pytest.mark.parametrize("epsilon", [0.03, 0.3])
def test_but_for_the_sum_of_the_row_no_weight_is_moved_by_more_than_epsilon(searched, how, epsilon):
    net, _, _, clean = searched
    furthest = 0
    for key in range(3):
        weights = perturbed(searched, how, epsilon, key)
        for kind, graph in net.space.cells.items():
            for row, start, mask in zip(weights[kind], np.asarray(clean[kind]), graph.candidate_mask, strict=True):
                row, start = row[mask], start[mask]
                low = np.divide(start - epsilon, row, out=np.full(len(row), -np.inf), where=row > 0).max()
                high = np.divide(start + epsilon, row, out=np.full(len(row), np.inf), where=row > 0).min()
                assert (start[row == 0] <= epsilon + 1e-6).all()
                assert low <= high * (1 + 1e-5), "some sum of the row puts every weight into its box"
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
    net, state, batch, _ = searched
    draw = jax.jit(lambda key: sdarts.gaussian(net)(state, batch, key, EPSILON)[-1]["reduce"])
    weights = np.stack([draw(jax.random.key(i)) for i in range(300)])[:, 0]  # an open edge of two candidates
    gaps = np.log(weights[:, 0] / weights[:, 1])  # the difference of two alphas
    mean = float(state.alphas["reduce"][0, 0] - state.alphas["reduce"][0, 1])
    assert gaps.mean() == pytest.approx(mean, abs=0.1) and gaps.std() == pytest.approx(EPSILON * 2**0.5, rel=0.15)


def test_the_attack_raises_the_loss_more_than_noise_does(searched):
    net, state, (images, labels, key), clean = searched

    @jax.jit
    def loss(weights):
        return bilevel.forward(net, state.variables, weights, images, labels, key, False)[0].loss

    attacked = [float(loss(perturbed(searched, "adversarial", key=i))) for i in range(3)]
    noisy = [float(loss(perturbed(searched, "uniform", key=i))) for i in range(3)]
    assert min(attacked) > float(loss(clean)) and min(attacked) > max(noisy)


def test_its_steps_in_a_scan_are_those_of_a_loop(searched):
    net, state, batch, _ = searched
    scanned = jax.jit(lambda state: sdarts.adversarial(net, scan=True)(state, batch, jax.random.key(0), EPSILON)[-1])
    for one, two in zip(
        jax.tree.leaves(scanned(state)), jax.tree.leaves(perturbed(searched, "adversarial")), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_where_nothing_raises_the_loss_the_weights_stay(searched):
    net, state, (images, labels, key), clean = searched
    flat = jax.tree.map(jnp.zeros_like, state.params)  # logits of zero, whatever the edge weights
    weights = sdarts.adversarial(net, jax.jit)(state.replace(params=flat), (images, labels, key), key, EPSILON)[-1]
    assert all(np.array_equal(weights[kind], clean[kind]) for kind in clean)


def test_decided_rows_are_one_hot_whatever_stands_there():
    space = SPACES["s3"]
    decisions = architecture.undecided(space).choose("normal", 3, 2).remove("normal", [5])
    rows = {kind: jnp.full((14, 3), 0.4) for kind in space.cells}
    decided = architecture.decided(rows, decisions)
    assert decided["normal"][3].tolist() == [0, 0, 1] and decided["normal"][5].tolist() == [0, 0, 0]
    assert np.delete(decided["normal"], [3, 5], 0).min() == np.float32(0.4) == decided["reduce"].min()

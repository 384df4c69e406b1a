"""The Hessian's largest eigenvalue, and the search that stops on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from darts_pt_jax import bilevel, curvature
from darts_pt_jax.bilevel import Batch
from darts_pt_jax.experiments.stages import search
from darts_pt_jax.experiments.training.supernet import Training
from tests import tiny
from tests.command import REPORTED, TINY, lines, run, same_results


def test_the_largest_eigenvalue_is_that_of_the_dense_matrix(rng):
    matrix = rng.standard_normal((15, 15)).astype(np.float32)
    matrix = matrix + matrix.T
    like = {"normal": jnp.zeros((3, 3)), "reduce": jnp.zeros((2, 3))}

    def product(vector):
        flat, unravel = ravel_pytree(vector)
        return unravel(matrix @ flat)

    expected = np.linalg.eigvalsh(matrix)
    assert expected[0] < -expected[-1] / 2, "a large negative eigenvalue does not count"
    assert curvature.dominant_eigenvalue(product, like) == pytest.approx(expected[-1], rel=1e-3)


@pytest.mark.slow
def test_products_are_those_of_the_dense_hessian_of_a_supernet(key):
    # few and small images, so that no ReLU changes its sign within the differences
    net, data = tiny.supernet("nasbench201", channels=2), tiny.dataset(4, 4)
    state, batch = tiny.state(net, key, 4), Batch((data.images / 255.0 - 0.5) * 2, data.labels, key)
    gradient = bilevel.make_gradient(net, ("alphas",))
    product = jax.jit(curvature.make_product(gradient))
    flat, unravel = ravel_pytree(state.alphas)
    slope = jax.jit(lambda flat: ravel_pytree(gradient(state.replace(alphas=unravel(flat)), batch)[0])[0])
    hessian = np.asarray(jax.jit(jax.jacfwd(slope))(flat))
    direction = jax.random.normal(key, flat.shape)
    image = ravel_pytree(product(state, unravel(direction), (batch,)))[0]
    np.testing.assert_allclose(image, hessian @ direction, rtol=1e-3, atol=1e-4 * abs(hessian).max())
    radius = 1e-3 / np.linalg.norm(direction)
    differences = (slope(flat + radius * direction) - slope(flat - radius * direction)) / (2 * radius)
    np.testing.assert_allclose(image, differences, rtol=0.1, atol=0.02 * float(abs(image).max()))
    value = curvature.dominant_eigenvalue(lambda d: product(state, d, (batch,)), state.alphas)
    assert value == pytest.approx(np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1], rel=0.01)


def test_a_matrix_of_zeros_has_the_eigenvalue_zero():
    assert curvature.dominant_eigenvalue(lambda v: 0 * v, jnp.ones(4)) == 0


def test_values_that_are_not_finite_are_reported():
    with pytest.raises(FloatingPointError, match="Hessian in the alphas is not finite"):
        curvature.dominant_eigenvalue(lambda v: v * np.nan, jnp.ones(4))


@pytest.mark.parametrize(
    ("values", "window", "ratio", "epoch"),
    [
        ([1, 1, 1, 2], 2, 0.75, 2),  # 1 < 0.75 * 1.5
        ([1, 1, 1, 1.6], 2, 0.75, None),
        ([9, 1, 1, 1, 2], 2, 0.75, 3),
        ([1, 4], 2, 0.75, None),
        ([1, 4], 1, 0.75, 1),
        ([1, 4], 1, 0.0, None),
        ([-1, 4], 1, 0.75, None),
        ([1, None, 4], 1, 0.75, 1),
    ],
)
def test_the_search_returns_to_an_earlier_epoch_if_the_curvature_grows_too_fast(values, window, ratio, epoch):
    assert search.stopping_epoch(dict(enumerate(values, 1)), window, ratio) == epoch


LOOKS = {"curvature.every": 1, "curvature.images": 32, "select.method": "magnitude", "eval.every": 10}
STOPS = {"curvature.stop": 0.75, "curvature.window": 1}


@pytest.mark.slow
def test_a_stopped_search_ends_with_the_supernet_to_which_it_returns(tmp_path, monkeypatch):
    keys = {**TINY, "search.epochs": 5, **LOOKS}
    assert run(tmp_path / "whole", keys) == 0
    whole = lines(tmp_path / "whole", "metrics.jsonl")
    measured = [m["curvature"] for m in whole if m["stage"] == "search"]
    assert len(set(measured)) == 5 and np.isfinite(measured).all()
    keys |= STOPS
    for name, values in (("stopped", [1.0, 1.0, 4.0]), ("late", [1.0, 1.0, 1.0, 1.0, 4.0])):
        foretold = iter(values)
        monkeypatch.setattr(Training, "curvature", lambda *_, foretold=foretold: next(foretold))
        assert run(tmp_path / name, keys, **REPORTED) == 0
        *searched, selected = lines(tmp_path / name, "metrics.jsonl")
        last = len(values)
        assert [m["epoch"] for m in searched] == list(range(1, last + 1)) and searched[-1]["returned_to"] == last - 1
        assert selected["stage"] == "select"
        weights = whole[last - 2]["edge_weights"]
        for d in lines(tmp_path / name, "decisions.jsonl"):
            if d["type"] == "operation":
                assert d["edge_weights"] == pytest.approx(weights[d["kind"]][d["edge"]], abs=1e-6)
        report = (tmp_path / name / "report.md").read_text()
        assert f"stopped after epoch {last}" in report and f"returned to epoch {last - 1}" in report
        assert f"| {searched[-2]['valid_accuracy']:.2f} |" in report
        again = {**keys, "stages": "select,report"}
        assert run(tmp_path / f"{name}-again", again, init_from=tmp_path / name) == 0
        same_results(tmp_path / name, tmp_path / f"{name}-again")
    # the supernet of the epoch at which it stopped
    assert run(tmp_path / "third", again, init_from=tmp_path / "stopped", init_epoch=3) == 0
    first = lines(tmp_path / "third", "decisions.jsonl")[0]
    assert first["edge_weights"] == pytest.approx(whole[2]["edge_weights"]["normal"][0], abs=1e-6)
    assert "stopped after" not in (tmp_path / "third" / "report.md").read_text()


def test_a_stopping_rule_that_can_never_apply_is_refused(tmp_path, capsys):
    keys = {**TINY, **LOOKS, **STOPS, "curvature.window": 2}
    assert run(tmp_path / "run", keys) == 2
    assert "first compares after epoch 4" in capsys.readouterr().err

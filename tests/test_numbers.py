"""Numbers that are not finite end a run with the step and the tensor, and never reach a checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from darts_pt_jax import bilevel, ops, spaces
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.experiments.training import loops
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.ops import Operation
from darts_pt_jax.spaces import SearchSpace, dag
from tests.command import TINY, run

HUGE = {**TINY, "search.alpha": "fixed", "select.method": "perturbation", "search.learning_rate": 1e25}
"""The first step makes the weights so large that the loss of the second step is not finite."""


class Rooted(Operation):
    """Zero, through a square root whose gradient there is infinite."""

    def __call__(self, x, batch_statistics):
        return jnp.sqrt(0 * x[:, :: self.stride, :: self.stride])


@pytest.fixture
def rooted(monkeypatch):
    """A space where the loss is finite and its gradient is not."""
    monkeypatch.setitem(ops.OPERATIONS, "rooted", Rooted)
    cells = {
        "normal": dag(2, 1, ("skip_connect", "rooted")),
        "reduce": dag(2, 1, ("skip_connect", "rooted"), reduction=True),
    }
    space = SearchSpace(name="rooted", cells=cells, layout=lambda n: ("normal", "reduce") * n, stem_multiplier=1)
    monkeypatch.setitem(spaces.SPACES, "rooted", space)


def finite(workdir):
    """Whether all values of the newest checkpoint are finite, and its number of units."""
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    arrays = checkpoints.arrays(checkpoints.latest())
    assert all(np.isfinite(a).all() for a in arrays.values())
    return checkpoints.position(checkpoints.latest())["units"]


@pytest.mark.parametrize("more", [{}, {"search.scan": "on"}, {"precision": "bfloat16"}], ids=str)
def test_a_loss_that_is_not_finite_ends_the_run_with_step_and_tensor(more, tmp_path, capsys):
    assert run(tmp_path / "run", HUGE, **more) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: search epoch 1/2, training step 2: the training loss is not finite in 1 of 1 values")
    assert (
        "lower search.learning_rate" in said
        and "--config.debug_nans=True continues from" in said
        and said.count("\n") == 1
    )
    assert finite(tmp_path / "run") == 0
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_gradient_that_is_not_finite_is_named_though_the_loss_is_finite(rooted, tmp_path, capsys):
    assert run(tmp_path / "run", TINY, space="rooted") == 1
    said = capsys.readouterr().err
    assert "search epoch 1/2, training step 1: the gradient['alphas']['normal'] is not finite in" in said
    assert finite(tmp_path / "run") == 0


@pytest.mark.slow
def test_retraining_is_watched_too(tmp_path, capsys):
    keys = {**TINY, "genotype": "DARTS_V2", "stages": "retrain", "retrain.epochs": 1, "retrain.learning_rate": 1e25}
    assert run(tmp_path / "run", keys) == 1
    said = capsys.readouterr().err
    assert "retrain epoch 1/1, training step 2: the training loss is not finite" in said
    assert "lower retrain.learning_rate" in said
    assert finite(tmp_path / "run") == 0


def test_the_debugger_continues_from_there_and_stops_at_the_operation(rooted, tmp_path, capsys):
    keys = {**TINY, "space": "rooted"}
    assert run(tmp_path / "run", keys) == 1
    capsys.readouterr()
    try:
        assert run(tmp_path / "run", keys, debug_nans=True) == 1
    finally:
        jax.config.update("jax_debug_nans", False)
    said = capsys.readouterr()
    assert said.err.startswith("error: FloatingPointError: invalid value (nan) encountered in mul")
    assert "details in" in said.err and (tmp_path / "run" / "traceback.txt").exists()


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_from_the_first_bad_step_on_a_state_stays_as_it_was(bad):
    def update(state, gradients, stats, rate):
        return optax.apply_updates(state, jax.tree.map(lambda g: -rate * g, gradients["params"]))

    guard = jax.jit(bilevel.guarded(update, "params"))
    state, total = {"w": jnp.ones(3)}, Metrics.zero()
    metrics, gradients = Metrics(jnp.float32(2), jnp.int32(1), jnp.int32(4)), {"params": {"w": jnp.arange(3.0)}}
    state, total = guard(state, total, gradients, metrics, {}, 0.5)
    np.testing.assert_array_equal(state["w"], [1, 0.5, 0])
    broken, no_number = metrics, jax.tree.map(lambda g: g.at[1].set(jnp.inf), gradients)
    if bad == "loss":
        broken, no_number = metrics.replace(loss=jnp.float32(jnp.inf)), gradients
    for values in ((no_number, broken), (gradients, metrics)):  # a good step afterwards changes nothing either
        state, total = guard(state, total, *values, {}, 0.5)
        np.testing.assert_array_equal(state["w"], [1, 0.5, 0])
        assert np.isnan(total.loss) and (int(total.correct), int(total.images)) == (1, 4)


def test_a_finite_gradient_with_an_overflowing_norm_is_reported():
    """The guard sees its norm overflow."""
    guard = jax.jit(bilevel.guarded(lambda state, gradients, stats: gradients["params"], "params"))
    gradients, metrics = {"params": {"w": jnp.full(4, 2e19)}}, Metrics(jnp.float32(2), jnp.int32(1), jnp.int32(4))
    state, total = guard({"w": jnp.zeros(4)}, Metrics.zero(), gradients, metrics, {})
    assert np.isnan(total.loss) and not state["w"].any()
    tensors = [("the training loss", metrics.loss), ("the gradient", gradients)]
    said = (
        r"training step 1: the gradient's norm is 4e\+19 and overflows, as any above 1.8e\+19 does: lower the rate, or"
    )
    with pytest.raises(FloatingPointError, match=said), loops.explained(lambda i, state: tensors, 4, "the rate"):
        raise loops.Diverged("diverged", state, total)
    assert loops.too_long([("short", {"w": jnp.full(4, 9e18)})]) is None

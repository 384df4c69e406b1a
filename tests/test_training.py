"""The programs of training: all forms compute the same, and each program is compiled once."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import architecture
from darts_pt_jax.configs import quickstart
from darts_pt_jax.data import sources
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config.schema import frozen
from darts_pt_jax.experiments.engine.timing import Stopwatch
from darts_pt_jax.experiments.training.supernet import Regime, Training
from darts_pt_jax.loops import Loop
from darts_pt_jax.samplers import SAMPLERS, Sampler
from darts_pt_jax.selection import scoring, strategies
from tests.command import CELL, TINY, run


def training(**keys):
    config = frozen(quickstart.get_config())
    shapes = {"data.examples": 96, "search.batch_size": 16, "search.gradients": "separate", "search.scan": "off"}
    config = config.changed({**TINY, "select.images": 0, **shapes, **keys})
    return Training(config, sources.load("digits", "", 0, config.data.examples))


def epoch(training, state, number=0):
    regime = Regime(0.025, "epoch", training.config.search.batch_size, 0.1)
    return training.epoch(state, jax.random.key(number), regime, Loop)


def trained(**keys):
    """State and metrics after an epoch, by default of three steps."""
    one = training(**keys)
    return jax.device_get(epoch(one, one.initial_state(jax.random.key(1))))


@pytest.fixture(scope="module")
def plainly():
    return trained()


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [{"search.gradients": "shared"}, {"search.scan": "on"}, {"search.gradients": "shared", "search.scan": "on"}],
    ids=str,
)
@pytest.mark.xdist_group("training")
def test_shared_or_separate_gradients_and_one_or_several_programs_give_the_same(keys, plainly):
    state, metrics = trained(**keys)
    assert metrics["train_loss"] == pytest.approx(plainly[1]["train_loss"], rel=1e-4)
    assert metrics["train_accuracy"] == plainly[1]["train_accuracy"]
    assert jax.tree.structure(state) == jax.tree.structure(plainly[0])
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(plainly[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=jax.tree_util.keystr(path))
    assert int(state.alpha_optimizer[1][0].count) == 3


@pytest.mark.slow
def test_second_order_and_the_attack_give_the_same_in_one_program_as_in_steps():
    keys = {"search.unrolled": "exact", "search.sampler": "sdarts_adv"}
    keys |= {"data.examples": 130, "search.batch_size": 64}  # one step: signs of gradients amplify rounding
    (one, one_metrics), (two, two_metrics) = (trained(**keys, **{"search.scan": scan}) for scan in ("on", "off"))
    assert one_metrics["train_loss"] == pytest.approx(two_metrics["train_loss"], rel=1e-3)
    np.testing.assert_allclose(one.alphas["normal"], two.alphas["normal"], atol=1e-4)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
    first = trained(**{**keys, "search.unrolled": "off", "search.sampler": "darts"})[0]
    assert abs(first.params["head"]["kernel"] - two.params["head"]["kernel"]).max() > 1e-3, "the methods do differ"


@pytest.mark.parametrize("scan", ["on", "off"])
def test_a_sampler_may_have_a_state_that_follows_each_step(scan, monkeypatch):
    """This one counts its steps and adds the level of each; and where it perturbs, it does not draw."""

    def unused(space, alphas, key, level, state):
        raise AssertionError("a weight step draws although the sampler perturbs")

    def unperturbed(space, loss, program, scan):
        return lambda state, batch, key, level: architecture.edge_weights(space, state.alphas, state.decisions)

    def counted(state, alphas, key, level):
        return {"steps": state["steps"] + 1, "levels": state["levels"] + level}

    sampler = Sampler(
        sample=unused, perturb=unperturbed, learns=False, schedule=lambda progress: 10 * progress,
        init_state=lambda space: {"steps": jnp.int32(0), "levels": jnp.float32(0)}, update_state=counted,
    )  # fmt: skip
    monkeypatch.setitem(SAMPLERS, "counting", lambda: sampler)
    state, _ = trained(**{"search.sampler": "counting", "search.scan": scan})
    assert (state.sampler["steps"], state.sampler["levels"]) == (3, 3)


@pytest.mark.slow
def test_only_activations_are_bfloat16():
    keys = {"data.examples": 80, "search.batch_size": 40}  # one step
    (wide, wide_metrics), (narrow, narrow_metrics) = (trained(precision=p, **keys) for p in ("float32", "bfloat16"))
    assert jax.tree.map(np.result_type, narrow) == jax.tree.map(np.result_type, wide)
    assert {leaf.dtype for leaf in jax.tree.leaves((narrow.params, narrow.batch_stats))} == {jnp.dtype("float32")}
    assert narrow_metrics["train_loss"] == pytest.approx(wide_metrics["train_loss"], rel=0.05)
    assert abs(narrow_metrics["train_loss"] - wide_metrics["train_loss"]) > 1e-5, "it does compute in bfloat16"
    for one, two in zip(jax.tree.leaves(narrow.params), jax.tree.leaves(wide.params), strict=True):
        np.testing.assert_allclose(one, two, atol=0.05)


@pytest.mark.parametrize("scan", ["on", "off"])
def test_a_second_epoch_and_all_edges_of_a_kind_need_no_further_programs(scan):
    one = training(**{"search.scan": scan})

    def round_of_work(state, number):
        state, _ = epoch(one, state, number)
        one.validate(state, jax.random.key(number), Loop)
        edge = (0, 6)[number]
        masks = strategies.without_operations(one.space, "normal", edge)
        indices = one.indices(jax.random.key(number), one.valid, "epoch", 1)
        weights = architecture.edge_weights(one.space, state.alphas, state.decisions)
        batches = [(one.valid, indices[0], jax.random.key(number))]
        scorer = one.scorer("normal")
        score = scoring.make_score(lambda *args: scorer(state.variables, weights, *args), one.masks("normal"), batches)
        return state.replace(decisions=state.decisions.choose("normal", edge, 1)), score(masks)

    watch = Stopwatch()
    state, first = round_of_work(one.initial_state(jax.random.key(1)), 0)
    assert watch.compile_seconds > 0
    watch = Stopwatch()
    _, second = round_of_work(state, 1)
    assert watch.compile_seconds == 0
    assert len(first["loss"]) == len(second["loss"]) and first["loss"] != second["loss"]


def test_every_program_of_a_run_is_traced_once(tmp_path, monkeypatch):
    """chex.assert_max_traces would take the two updates, which are one function's closures, for one."""
    jit, traces = Devices.jit, collections.Counter()

    def counting(self, function, *args, **options):
        program = len(traces), getattr(function, "__qualname__", str(function))
        traces[program] = 0

        def counted(*arguments):
            traces[program] += 1
            return function(*arguments)

        return jit(self, counted, *args, **options)

    monkeypatch.setattr(Devices, "jit", counting)
    keys = {**CELL, "search.alpha": "learned", "stages": "search,select,retrain", "retrain.cells": 1,
            "retrain.epochs": 2, "retrain.auxiliary": 0}  # fmt: skip
    assert run(tmp_path / "run", keys) == 0
    assert sum(traces.values()) >= 8 and max(traces.values()) == 1, traces

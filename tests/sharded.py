"""Tests that need eight devices; test_devices.py runs them in a separate process."""

import functools
import json

import jax
import numpy as np
import pytest

from benchmarks.programs import in_program
from darts_pt_jax import architecture, bilevel
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments import main
from darts_pt_jax.experiments.engine.timing import Stopwatch
from darts_pt_jax.experiments.training import supernet as training
from darts_pt_jax.experiments.training.steps import _batch
from darts_pt_jax.selection import perturbation, scoring, strategies
from tests import test_training
from tests.command import CELL, TINY, arguments, run
from tests.test_retrain_settings import pictures, two_epochs  # noqa: F401

LOSSES = 1e-5
"""Relative tolerance between losses and scores on one and on several devices, from one state (docs/scaling.md)."""


@pytest.fixture(autouse=True, scope="module")
def eight():
    assert jax.device_count() == 8


@functools.cache
def on(devices, **keys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_training, "Training", lambda *args: training.Training(*args, Devices.here(devices)))
        return test_training.training(**keys)


def after_an_epoch(devices, **keys):
    one = on(devices, **keys)
    return jax.device_get(test_training.epoch(one, one.initial_state(jax.random.key(1))))


def close(one, two, **tolerance):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, err_msg=jax.tree_util.keystr(path), **tolerance)


ONE_STEP = {"data.examples": 130, "search.batch_size": 64}
METHODS = {
    "first order": {},
    "shared, scanned, rematerialised": {"space": "cell", "search.gradients": "shared", "search.scan": "on", "remat": True},
    "second order": {"space": "cell", "search.unrolled": "exact"},
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_gives_the_same_result_on_any_number_of_devices(method):
    (one, one_metrics), (eight, eight_metrics) = (after_an_epoch(n, **METHODS[method]) for n in (1, 8))
    assert eight_metrics["train_loss"] == pytest.approx(one_metrics["train_loss"], rel=LOSSES)
    assert eight_metrics["train_accuracy"] == one_metrics["train_accuracy"]
    close(eight, one, rtol=1e-3, atol=1e-4)


def test_a_repeated_epoch_is_equal_bit_for_bit_and_compiles_nothing():
    one = on(8)
    state, one_metrics = test_training.epoch(one, one.initial_state(jax.random.key(1)))
    watch = Stopwatch()
    again, again_metrics = test_training.epoch(one, one.initial_state(jax.random.key(1)))
    assert watch.compile_seconds == 0
    assert one_metrics == again_metrics
    close(jax.device_get(state), jax.device_get(again), rtol=0, atol=0)


@pytest.mark.parametrize(("mask_batch", "arranged"), [(0, (1, 8)), (2, (2, 4))])
def test_scores_and_choices_are_the_same_on_any_number_of_devices(mask_batch, arranged):
    found = {}
    for devices in (1, 8):
        one = on(devices, **{"select.mask_batch": mask_batch, "search.batch_size": 32, "data.examples": 256})
        state = one.initial_state(jax.random.key(1))
        state = state.replace(alphas=architecture.init_alphas(one.space, jax.random.key(2), 1.0))
        indices = one.indices(jax.random.key(3), one.valid, "epoch", 2)
        batches = [(one.valid, part, jax.random.key(i)) for i, part in enumerate(indices)]
        weights = architecture.edge_weights(one.space, state.alphas, state.decisions)
        found[devices] = []
        for kind in ("normal", "reduce"):
            scorer = functools.partial(one.scorer(kind), state.variables, weights)
            score = scoring.make_score(scorer, one.masks(kind), batches)
            found[devices] += [perturbation.decide_operation(score, one.space, kind, edge) for edge in range(9)]
    assert any(decision["margin"] > 1 for decision in found[1])
    assert tuple(one.for_scoring("normal").mesh.shape.values()) == arranged
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(other["loss"], one["loss"], rtol=LOSSES)
        if one["margin"] > 1:
            assert other["choice"] == one["choice"]


@pytest.mark.parametrize(
    ("masks", "batch_size", "devices", "arranged", "filled"),
    [
        (9, 64, 1, (1, 1), 9),
        (8, 64, 8, (8, 1), 8),
        (9, 64, 8, (1, 8), 9),
        (6, 64, 4, (2, 2), 6),
        (6, 60, 8, (2, 4), 6),
        (5, 4, 8, (2, 4), 6),
        (3, 2, 8, (4, 2), 4),
    ],
)
def test_the_mesh_of_masks_and_data_has_least_work_for_each_device(masks, batch_size, devices, arranged, filled):
    scoring = Devices.here(devices).for_scoring(masks, batch_size)
    assert tuple(scoring.mesh.shape.values()) == arranged
    assert scoring.filled(masks) == filled
    assert batch_size % arranged[1] == 0 and filled % arranged[0] == 0


def test_devices_exchange_only_sums():
    """docs/scaling.md: two sums for a BatchNorm forward, one backward, and the gradients; nothing as large as an image."""
    one = on(8, space="nasbench201", **ONE_STEP)
    state = one.initial_state(jax.random.key(1))
    indices = one.devices.split(one.indices(jax.random.key(3), one.train, "epoch", 1))
    batch = _batch(one.train, indices, 0, jax.random.key(4))
    found = in_program(one.devices.jit(bilevel.make_gradient(one.net, ("params",))).trace(state, batch))
    gradients, statistics = (sum(x.size for x in jax.tree.leaves(part)) for part in (state.params, state.batch_stats))
    channels = statistics // 2
    assert set(found) == {"all-reduce"}
    assert sum(found["all-reduce"]) <= 4 * (gradients + 5 * channels) + 100
    assert not in_program(on(1).devices.jit(lambda x: x.sum()).trace(np.ones(8))), "one device exchanges nothing"


@pytest.mark.parametrize(
    ("space", "cells", "platform"), [("nasbench201", 1, "cpu"), ("s4", 3, "tpu"), ("s4", 3, "gpu")]
)
def test_scoring_leaves_images_where_they_are(space, cells, platform, monkeypatch):
    """In the kernels for CPUs and in those for accelerators."""
    one = on(8, space=space, **{"supernet.cells": cells, "search.batch_size": 16, "data.examples": 128, "data.size": 8})
    state = one.initial_state(jax.random.key(1))
    weights = architecture.edge_weights(one.space, state.alphas, state.decisions)
    masks = strategies.without_operations(one.space, "normal", 1)
    masks = np.resize(masks, (one.masks("normal"), *masks.shape[1:]))
    monkeypatch.setattr("darts_pt_jax.devices.platform", lambda: platform)
    scorer, batch = one._scorer("normal"), (one.valid, np.arange(16), jax.random.key(2))
    found = in_program(scorer.trace(state.variables, weights, masks, batch))
    assert set(found) == {"all-reduce", "all-gather"}
    assert max(found["all-gather"]) == 4 * len(masks) * 16, "of every image, its loss or whether it is right"
    channels = sum(x.size for x in jax.tree.leaves(state.batch_stats)) // 2
    assert sum(found["all-reduce"]) <= 4 * len(masks) * (3 * channels + 2)
    sums, *_ = scorer(state.variables, weights, masks, batch)
    alone = jax.jit(scoring.make_scorer(bilevel.make_evaluate(one.net, True, True), "normal"))
    expected, *_ = alone(*jax.device_get((state.variables, weights, masks)), jax.device_put(batch, jax.devices()[0]))
    np.testing.assert_allclose(sums.loss, expected.loss, rtol=LOSSES)


def test_a_checkpoint_moves_from_one_device_to_eight_and_on_to_two(tmp_path):
    checkpoints, states = Checkpoints(tmp_path / "c"), []
    for number, devices in enumerate((1, 8, 2)):
        one = on(devices, space="cell")
        state = one.initial_state(jax.random.key(1))
        if number:
            state = checkpoints.restore(number - 1, one.abstract_state())
            close(jax.device_get(state), states[-1], rtol=0, atol=0)
        assert {leaf.sharding for leaf in jax.tree.leaves(state)} == {one.devices.whole}
        states.append(jax.device_get(test_training.epoch(one, state, number)[0]))
        checkpoints.save(number, states[-1], {})


def test_a_run_continues_on_other_devices_and_says_so(tmp_path, capsys):
    keys = {**CELL, "select.method": "random", "search.epochs": 1}
    assert run(tmp_path / "run", keys, stages="search", devices=1) == 0
    assert run(tmp_path / "run", keys, stages="select") == 0
    assert (
        "was begun on 1 cpu and continues on 8 cpu: its numbers may differ in the last bits" in capsys.readouterr().out
    )
    assert json.loads((tmp_path / "run" / "run.json").read_text())["devices"] == ["1 cpu", "8 cpu"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"search.batch_size": 60}, "search.batch_size is 60, which the 8 devices do not divide: set it to 56 or 64, or devices to 6"),
        ({"search.batch_size": 4}, "search.batch_size is 4, which the 8 devices do not divide: set it to 8, or devices to 4"),
        ({"retrain.batch_size": 65, "stages": "search,select,retrain"}, "retrain.batch_size is 65, which the 8 devices do not divide: set it to 64 or 72, or devices to 5"),
        (
            {"space": "s3", "supernet.cells": 3, "select.method": "sgas", "sgas.batch_increase": 4, "search.schedule_epochs": 99},
            "sgas.batch_increase is 4, which the 8 devices do not divide: set it to 8, or devices to 4",
        ),
    ],
)  # fmt: skip
def test_batches_that_do_not_divide_are_refused_before_any_work(keys, message, tmp_path, capsys):
    for plan in ((), ("--plan",)):
        assert main.main([*arguments(tmp_path / "run", **{**TINY, **keys}), *plan]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_retraining_gives_the_same_result_on_any_number_of_devices(pictures):  # noqa: F811
    found = []
    for devices in (1, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Devices, "here", lambda _, devices=devices: Devices(jax.devices()[:devices]))
            found.append(two_epochs(pictures, **{"retrain.batch_size": 8, "remat": devices == 8}))
    assert found[0] == pytest.approx(found[1], rel=1e-4)

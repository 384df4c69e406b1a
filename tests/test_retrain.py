"""From a genotype to a trained network: retraining, resuming, testing, export and use."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from darts_pt_jax import supervised
from darts_pt_jax.data import batches, sources
from darts_pt_jax.data.images import ARRAYS
from darts_pt_jax.experiments import export, main, predict
from darts_pt_jax.experiments.engine.screen import Screen
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop import published
from darts_pt_jax.interop.export import TrainedNetwork, plugins_of
from darts_pt_jax.network import DiscreteCell
from tests import tiny
from tests.command import REPORTED, TINY, lines, run, same_results, stopping_at

SMALL = {"retrain.cells": 3, "retrain.channels": 2, "retrain.epochs": 3, "retrain.batch_size": 50, "retrain.auxiliary": 0.0,
         "retrain.cutout": 3, "data.examples": 130}  # fmt: skip
KEYS = {**SMALL, "genotype": "DARTS_V1", "stages": "retrain,report"}
share_a_run = pytest.mark.xdist_group("retrained")


@pytest.fixture(scope="module")
def retrained(tmp_path_factory):
    """A published architecture, retrained on digits."""
    workdir = tmp_path_factory.mktemp("retrained") / "run"
    assert run(workdir, KEYS) == 0
    return workdir


@share_a_run
def test_a_published_architecture_is_retrained_and_tested(retrained):
    metrics = lines(retrained, "metrics.jsonl")
    assert [(m["stage"], m["epoch"]) for m in metrics] == [("retrain", 1), ("retrain", 2), ("retrain", 3)]
    assert [m["learning_rate"] for m in metrics] == pytest.approx([0.025, 0.01875, 0.00625])
    assert [m["drop_path"] for m in metrics] == pytest.approx([0, 0.2 / 3, 0.4 / 3])
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    result = json.loads((retrained / "retrained.json").read_text())
    accuracies = [m["test_accuracy"] for m in metrics]
    assert (result["test_accuracy"], result["best_test_accuracy"]) == (accuracies[-1], max(accuracies))
    assert accuracies[result["best_epoch"] - 1] == max(accuracies)
    report = (retrained / "report.md").read_text()
    assert f"after epoch 3, the last | {accuracies[-1]:.2f}" in report and "the best on the test set itself" in report
    assert Genotype.from_json((retrained / "genotype.json").read_text()) == published.genotypes()["DARTS_V1"]


@share_a_run
def test_the_report_gives_size_and_latency_which_is_measured_once(retrained, tmp_path, capsys):
    row = f"| given | {json.loads((retrained / 'retrained.json').read_text())['parameters']:,} |"
    assert row in (retrained / "report.md").read_text()
    copy = shutil.copytree(retrained, tmp_path / "run")
    assert run(copy, KEYS, **{"report.latency": True}) == 0
    (entry,) = json.loads((copy / "networks.json").read_text())
    before = (copy / "report.md").read_text()
    assert entry["milliseconds"] > 0 and f"| {entry['milliseconds']:.3g} |" in before
    (copy / "report.md").unlink()
    assert run(copy, KEYS, **{"report.latency": True}) == 0
    assert (copy / "report.md").read_text() == before


@share_a_run
def test_the_saved_network_has_the_reported_accuracy_on_all_test_images(retrained, tmp_path, capsys):
    digits = sources.digits()
    np.savez(tmp_path / "digits.npz", **{name: getattr(digits, name) for name in ARRAYS})
    Image.fromarray(np.kron(digits.test_images[0, :, :, 0], np.ones((4, 4), np.uint8))).save(tmp_path / "digit.png")
    assert predict.main([str(retrained), str(tmp_path / "digits.npz"), str(tmp_path / "digit.png")]) == 0
    whole, one = map(json.loads, capsys.readouterr().out.splitlines())
    assert whole["epoch"] == 3 and whole["images"] == 360, "no batch size here divides it"
    assert whole["accuracy"] == pytest.approx(json.loads((retrained / "retrained.json").read_text())["test_accuracy"])
    network = TrainedNetwork.load(retrained)
    expected = jax.nn.softmax(network.logits(digits.test_images[:1]))[0]
    np.testing.assert_allclose(one["probabilities"], expected, atol=1e-5)


@share_a_run
def test_the_export_runs_with_jax_alone_and_gives_the_same_logits(retrained, tmp_path, capsys):
    assert export.main([str(retrained)]) == 0
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), np.uint8)
    np.save(tmp_path / "images.npy", images)
    program = f"""
import sys, jax, numpy
exported = jax.export.deserialize(open({str(retrained / "network.stablehlo")!r}, "rb").read())
numpy.save({str(tmp_path / "logits.npy")!r}, exported.call(numpy.load({str(tmp_path / "images.npy")!r})))
assert not [name for name in sys.modules if name.startswith(("darts_pt_jax", "flax", "experiments"))]
"""
    subprocess.run([sys.executable, "-c", "import jax.export\n" + program], check=True, cwd=tmp_path)
    ours = TrainedNetwork.load(retrained).logits(images)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), ours, rtol=1e-4, atol=1e-5)
    Image.fromarray(images[0, :, :, 0]).save(tmp_path / "image.png")
    capsys.readouterr()
    for network in (retrained, retrained / "network.stablehlo"):
        assert predict.main([str(network), str(tmp_path / "image.png")]) == 0
    from_run, from_export = map(json.loads, capsys.readouterr().out.splitlines())
    assert from_run["class"] == from_export["class"]
    np.testing.assert_allclose(from_run["probabilities"], from_export["probabilities"], atol=1e-5)
    assert predict.main([str(tmp_path / "image.png"), str(tmp_path / "image.png")]) == 2
    assert "no StableHLO of experiments.export" in capsys.readouterr().err


@share_a_run
def test_the_export_has_the_kernels_of_each_platform(retrained):
    text = jax.export.deserialize(TrainedNetwork.load(retrained).stablehlo()).mlir_module()
    assert re.search(r"feature_group_count = [2-9]", text), "XLA's grouped convolution, for cuda and tpu"
    assert "inlineable" in text, "sums of shifted images, for CPUs"


@share_a_run
def test_plugins_names_and_fit_are_kept_with_the_network_and_older_files_are_read(retrained, tmp_path):
    network = TrainedNetwork.load(retrained)
    assert network.plugins == plugins_of(retrained) == ()
    dataclasses.replace(network, plugins=("my_ops.py", "my.module")).save(tmp_path)
    file = tmp_path / "network.json"
    description = json.loads(file.read_text())
    assert description["plugins"] == ["my_ops.py", "my.module"]
    assert TrainedNetwork.load(tmp_path).plugins == plugins_of(tmp_path) == ("my_ops.py", "my.module")
    file.write_text(json.dumps(description | {"genotype": "of operations that nobody has registered"}))
    assert plugins_of(tmp_path) == ("my_ops.py", "my.module")
    file.write_text(json.dumps(description | {"plugins": "my_ops.py"}))
    with pytest.raises(ValueError, match=r"plugins is 'my_ops.py', expected a list of names"):
        TrainedNetwork.load(tmp_path)
    for wrong, message in (({"fit": "none"}, "fit is 'none', expected one of resized, bilinear, middle"),
                           ({"class_names": ["a", "b"]}, "class_names has 2 names for 10 classes")):  # fmt: skip
        file.write_text(json.dumps(description | wrong))
        with pytest.raises(ValueError, match=message):
            TrainedNetwork.load(tmp_path)
    for name in ("plugins", "class_names", "fit"):
        del description[name]
    for crop, fit in ((True, "middle"), (False, "resized")):
        file.write_text(json.dumps(description | {"crop": crop}))
        earlier = TrainedNetwork.load(tmp_path)
        assert (earlier.plugins, earlier.class_names, earlier.fit) == ((), (), fit)
    for place, message in ((tmp_path / "nothing", "no such directory"), (tmp_path.parent, r"it has no network\.json")):
        with pytest.raises(ValueError, match=message):
            plugins_of(place)


@share_a_run
def test_a_network_that_is_damaged_is_refused(retrained, tmp_path, capsys):
    assert export.main([str(tmp_path)]) == 2
    for name in ("network.json", "network.safetensors"):
        (tmp_path / name).write_bytes((retrained / name).read_bytes())
    content = (tmp_path / "network.safetensors").read_bytes()
    (tmp_path / "network.safetensors").write_bytes(content[:-10])
    assert predict.main([str(tmp_path), "x.npz"]) == 2
    (tmp_path / "network.safetensors").write_bytes(content)
    wider = (tmp_path / "network.json").read_text().replace('"channels": 2', '"channels": 3')
    (tmp_path / "network.json").write_text(wider)
    assert predict.main([str(tmp_path), "x.npz"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 3 and "no readable network.json" in error[1] and "got (2,), expected (3,)" in error[2]


@share_a_run
def test_retraining_is_resumed_bit_for_bit(retrained, tmp_path, monkeypatch):
    workdir = tmp_path / "parts"
    for stop in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(Screen, "end", stopping_at(stop, Screen.end))
            assert run(workdir, KEYS) == 143
    assert TrainedNetwork.load(workdir).epoch == 3 and not (workdir / "retrained.json").exists()
    assert run(workdir, KEYS) == 0
    for name in ("metrics.jsonl", "genotype.json", "report.md", "retrained.json", "network.safetensors"):
        assert (workdir / name).read_bytes() == (retrained / name).read_bytes(), name


@pytest.mark.slow
def test_it_is_resumed_within_an_epoch_too(retrained, tmp_path, monkeypatch):
    from darts_pt_jax.experiments.training import network as training_network

    workdir, whole = tmp_path / "parts", training_network.Retraining.epoch

    def interrupted(self, state, key, *args):
        *args, begin = args

        def stopping(*loop):
            loop = begin(*loop)
            numbers = loop.__iter__

            class Stopping(type(loop)):
                def __iter__(self):
                    for i in numbers():
                        if i == 1:
                            os.kill(os.getpid(), signal.SIGTERM)
                        yield i

            loop.__class__ = Stopping
            return loop

        return whole(self, state, key, *args, stopping)

    with monkeypatch.context() as patch:
        patch.setattr(training_network.Retraining, "epoch", interrupted)
        assert run(workdir, KEYS, stages="retrain") == 143
    assert run(workdir, KEYS, stages="retrain") == 0
    assert (workdir / "network.safetensors").read_bytes() == (retrained / "network.safetensors").read_bytes()


@pytest.mark.slow
def test_the_choice_of_a_run_is_retrained_in_its_run_directory(tmp_path):
    keys = {**TINY, **SMALL, **REPORTED, "search.epochs": 1, "select.method": "random", "tensorboard": False}
    assert run(tmp_path / "run", keys) == 0
    before = (tmp_path / "run" / "report.md").read_text()
    keys["stages"] = "retrain,report"
    assert run(tmp_path / "run", keys) == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert "## Retrained network" in report and "## Retrained network" not in before
    assert set(before.splitlines()) <= set(report.splitlines())
    together = {**keys, "stages": "search,select,retrain,report"}
    assert run(tmp_path / "together", together) == 0
    same_results(tmp_path / "run", tmp_path / "together")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"genotype": "DARTS_V3"}, "no published name and no readable file"),
        (
            {"genotype": "|nor_conv_3x3~0|+|none~0|none~1|", "retrain.form": "cifar"},
            "the cifar network has normal, reduce",
        ),
        ({"retrain.auxiliary": 0.4}, "images of 8x8 leave the auxiliary head 2x2 pixels, it needs 8x8: set it to 0"),
        ({"retrain.batch_size": 131}, "retrain.batch_size is 131, but there are 130 training images"),
        ({"retrain.schedule": "cosin"}, "did you mean cosine?"),
    ],
)
def test_what_does_not_fit_is_refused(keys, message, tmp_path, capsys):
    assert run(tmp_path / "run", KEYS, **keys) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_changed_protocol_is_refused_once_retraining_has_begun(retrained, capsys):
    assert run(retrained, KEYS, **{"retrain.learning_rate": 0.1}) == 2
    assert "retrain.learning_rate was 0.025 and is 0.1" in capsys.readouterr().err


def test_drop_path_zeroes_or_enlarges_the_outputs_of_operations_but_not_of_identities(key):
    images = jax.random.normal(key, (64, 4, 4, 2))

    def outputs(nodes, probability):
        cell = DiscreteCell((nodes,), (1,), 2, 1, False, False)
        variables = cell.init({"params": key, "dropout": key}, (images,), True, 0.0)
        rngs = {"dropout": jax.random.key(5)}
        return cell.apply(variables, (images,), True, probability, mutable=["batch_stats"], rngs=rngs)[0]

    skip = (("skip_connect", 0),)
    np.testing.assert_array_equal(outputs(skip, 0.75), outputs(skip, 0.0))
    conv = (("nor_conv_1x1", 0),)
    ratio = np.median(np.asarray(outputs(conv, 0.75) / outputs(conv, 0.0)), (1, 2, 3))
    kept = ratio != 0
    np.testing.assert_allclose(ratio[kept], 4, rtol=1e-5)
    assert 5 <= kept.sum() <= 30, "a quarter of 64"
    cell = DiscreteCell((conv,), (1,), 2, 1, False, False)
    variables = cell.init({"params": key, "dropout": key}, (images,), True, 0.0)
    cell.apply(variables, (images,), False, 0.75)  # evaluation draws nothing


def test_cutout_blanks_a_square_around_a_pixel_of_the_image(key):
    data = tiny.dataset(n=200, size=9, pad=0, flip=False).replace(cutout=4)
    images, _ = batches.batch(data, jnp.arange(200), key)
    plain, _ = batches.batch(data.replace(cutout=0), jnp.arange(200), key)
    blank = np.asarray((images == 0).all(-1) & (plain != 0).any(-1))
    sizes = set()
    for image, before, after in zip(blank, plain, images, strict=True):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "one rectangle"
        assert 2 <= len(rows) <= 4 and 2 <= len(columns) <= 4, "its centre is in the image"
        sizes.add((len(rows), len(columns)))
        np.testing.assert_array_equal(after[~image], before[~image])
    assert (4, 4) in sizes and (2, 4) in sizes and blank.any(0).all()
    again, _ = batches.batch(data, jnp.arange(200), None)
    np.testing.assert_array_equal(again, plain)


@pytest.mark.parametrize(
    ("name", "values"), [("cosine", (1, 0.5, 0.0)), ("exponential", (1, 0.97**300, 0.97**600)), ("linear", (1, 0.5, 0))]
)
def test_schedules(name, values):
    assert [supervised.SCHEDULES[name](epoch, 600) for epoch in (0, 300, 600)] == pytest.approx(values)


@pytest.mark.slow
def test_the_plan_gives_parameters_and_steps(tmp_path, capsys):
    argv = ["main", "--config=configs/retrain_c10.py", "--plan", f"--workdir={tmp_path / 'run'}"]
    keys = {
        "data.source": "digits",
        "data.mean": "()",
        "data.std": "()",
        "retrain.auxiliary": 0,
        "retrain.cutout": 4,
        "genotype": "DARTS_V2",
    }
    assert main.main([*argv, *(f"--config.{k}={v}" for k, v in keys.items())]) == 0
    text = capsys.readouterr().out
    # 3,349,342 with three image channels, of which the stem of 108 channels has 3 * 3 * 108 weights each
    assert f"{3349342 - 2 * 9 * 108:,} parameters, " in text
    assert "M multiply-adds an image, 600 epochs of 14 steps of 96 images; 360 test images" in text

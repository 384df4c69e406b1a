"""Retraining by the ImageNet config, on a folder of pictures that are read when they are needed."""

import json

import numpy as np
import pytest
from PIL import Image

from darts_pt_jax.data import feeds
from darts_pt_jax.data.batches import Recipe
from darts_pt_jax.data.folders import folder
from darts_pt_jax.data.images import Images
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments import main, predict
from darts_pt_jax.experiments.engine.screen import Screen
from darts_pt_jax.interop.export import TrainedNetwork
from tests.command import stopping_at

pytestmark = pytest.mark.slow

SIDE, CLASSES = 64, ("green", "red", "violet")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """40 training and 13 test pictures whose class is their colour."""
    path, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    colours = {"green": (40, 200, 40), "red": (220, 40, 30), "violet": (120, 30, 200)}
    for split, count in (("train", 40), ("val", 13)):
        for n in range(count):
            name = CLASSES[n % 3]
            pixels = rng.integers(-30, 30, (int(rng.integers(33, 60)), int(rng.integers(33, 60)), 3)) + colours[name]
            (path / split / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path / split / name / f"{n:02}.jpg")
    return path


def retrain(root, workdir, **keys):
    keys = {
        "data.source": "folder", "data.path": root, "data.crop": SIDE, "retrain.cells": 3, "retrain.channels": 4,
        "retrain.epochs": 3, "retrain.batch_size": 8, "retrain.learning_rate": 0.02, "retrain.jitter": "(0.2, 0.2, 0.2, 0.02)", "retrain.auxiliary": 0.0, "report.latency": False,
        "tensorboard": False, **keys,
    }  # fmt: skip
    overrides = [f"--config.{key}={value}" for key, value in keys.items() if value is not None]
    return main.main(["main", "--config=configs/retrain_imagenet.py", f"--workdir={workdir}", *overrides])


@pytest.fixture(scope="module")
def retrained(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("retrained") / "run"
    assert retrain(root, workdir) == 0
    return workdir


@pytest.mark.xdist_group("pictures")
def test_the_imagenet_network_learns_from_a_folder(retrained, root, capsys):
    metrics = [json.loads(line) for line in (retrained / "metrics.jsonl").read_text().splitlines()]
    assert [m["learning_rate"] for m in metrics] == pytest.approx([0.02, 0.0194, 0.018818])
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"] and metrics[-1]["test_loss"] < np.log(3)
    network = TrainedNetwork.load(retrained)
    assert (network.net.form, network.net.classes, network.image_shape) == ("imagenet", 3, (SIDE, SIDE, 3))
    files = sorted((root / "val").glob("*/*.jpg"))
    assert predict.main([str(retrained), *map(str, files)]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in said] == [CLASSES[line["class"]] for line in said]
    right = sum(line["name"] == file.parent.name for line, file in zip(said, files, strict=True))
    result = json.loads((retrained / "retrained.json").read_text())
    assert len(files) == 13 and 100 * right / 13 == pytest.approx(result["test_accuracy"])


@pytest.mark.xdist_group("pictures")
def test_it_is_resumed_bit_for_bit_within_and_between_epochs(retrained, root, tmp_path, monkeypatch):
    for method, stop in (("step", 2), ("end", 1), ("step", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(Screen, method, stopping_at(stop, getattr(Screen, method)))
            assert retrain(root, tmp_path / "run") == 143
    assert retrain(root, tmp_path / "run") == 0
    for name in ("metrics.jsonl", "report.md", "network.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (retrained / name).read_bytes(), name


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data.source": "npz"}, "data.crop is 64, but data.source='npz' is kept in memory"),
        ({"data.crop": 0}, "its pictures have several sizes ("),
        ({"data.path": "nowhere"}, "data.path is 'nowhere', expected a folder that holds train/CLASS/*"),
        ({"data.mean": "()", "data.std": "()"}, "give data.mean and data.std"),
        ({"data.examples": 10}, "data.examples is 10, which does not go with data.crop"),
        ({"stages": "search,select,report"}, "which is for retraining a given genotype"),
        ({"retrain.auxiliary": 0.4}, "images of 64x64 leave the auxiliary head 2x2 pixels, it needs 7x7"),
        ({"retrain.batch_size": 41}, "retrain.batch_size is 41, but there are 40 training images"),
        ({"retrain.jitter": "(0.1, 0.1)"}, "retrain.jitter is [0.1, 0.1], expected four numbers"),
        (
            {"data.source": "imagenet2012", "data.path": None, "data.dir": "nowhere"},
            "data set imagenet2012 is not prepared in nowhere",
        ),
    ],
)
def test_what_does_not_fit_is_refused(keys, message, root, tmp_path, capsys):
    assert retrain(root, tmp_path / "run", **keys) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_picture_that_cannot_be_read_ends_the_run_with_its_name(root, tmp_path, capsys):
    for split in ("train", "val"):
        for name in CLASSES:
            (tmp_path / split / name).mkdir(parents=True)
            for file in (root / split / name).iterdir():
                (tmp_path / split / name / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / "val" / "red" / "01.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    assert retrain(tmp_path, tmp_path / "run") == 1
    assert f"{broken}: not a picture that can be used" in capsys.readouterr().err


def test_feeds_from_memory_and_from_a_stream_number_batches_alike(root, key):
    half = np.full(3, 0.5, np.float32)
    recipe, stream = Recipe(half, half, 0, True), folder(str(root), SIDE)
    ((pixels, labels),) = stream.testing(13)
    resident = feeds.feed(Images(pixels, labels, pixels, labels, 0, True), recipe, Devices.here())
    streamed = feeds.feed(stream, recipe, Devices.here())
    from_memory, from_stream = resident.testing(5), streamed.testing(5)
    for i in range(3):
        images, labels = streamed.batch(from_stream(i), None)
        expected, expected_labels = resident.batch(from_memory(i), None)
        np.testing.assert_allclose(images, expected, atol=1e-6)
        np.testing.assert_array_equal(labels, expected_labels)
    first, again = (streamed.training(key, 8) for _ in range(2))
    first(0)
    for one, other in zip(streamed.batch(first(1), key), streamed.batch(again(1), key), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.xdist_group("pictures")
def test_a_loss_that_is_not_finite_is_reproduced_from_a_stream(root, tmp_path, capsys):
    assert retrain(root, tmp_path / "run", **{"retrain.learning_rate": 1e25}) == 1
    said = capsys.readouterr().err
    assert "retrain epoch 1/3, training step 2: the training loss is not finite in 1 of 1 values" in said

"""The settings of retraining: their effects, valid combinations, and what a run directory fixes."""

import dataclasses
import json
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from darts_pt_jax.data.images import Images
from darts_pt_jax.experiments import main, predict, sweep
from darts_pt_jax.experiments.config import settings
from darts_pt_jax.experiments.stages import report
from darts_pt_jax.experiments.training import network as retraining
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop import published
from darts_pt_jax.loops import Loop
from darts_pt_jax.supervised import SCHEDULES
from tests.command import REPORTED, TINY, command, lines, run

ARCH = "|nor_conv_1x1~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
SMALL = {"retrain.cells": 1, "retrain.channels": 4, "retrain.epochs": 2, "retrain.batch_size": 20, "retrain.auxiliary": 0.0,
         "retrain.cutout": 3, "data.examples": 60, "tensorboard": False}  # fmt: skip
KEYS = {**SMALL, "genotype": ARCH, "stages": "retrain"}


def parsed(**keys):
    overrides = [f"--config.{key}={value}" for key, value in {**KEYS, **keys}.items()]
    return settings.parse(["main", "--config=configs/quickstart.py", *overrides]).config


@pytest.fixture(scope="module")
def pictures():
    """40 RGB images, whose class is their brightness."""
    rng, labels = np.random.default_rng(0), np.arange(40, dtype=np.int32) % 2
    pixels = (rng.integers(0, 150, (40, 8, 8, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    return Images(pixels, labels, pixels, labels, pad=1, flip=True)


def two_epochs(images, **keys):
    """Training losses of two epochs."""
    config = parsed(**keys)
    trainer = retraining.Retraining(config, images, published.find(config.genotype))
    state, losses = trainer.initial_state(jax.random.key(0)), []

    for number in range(2):
        rate = config.retrain.learning_rate * SCHEDULES[config.retrain.schedule](number, 2)
        state, metrics = trainer.epoch(state, jax.random.key(number), rate, config.retrain.drop_path * number / 2, Loop)
        losses.append(metrics["train_loss"])
    return losses


@pytest.fixture(scope="module")
def usual(pictures):
    return two_epochs(pictures)


@pytest.mark.parametrize(
    ("key", "value", "epoch"),
    [
        ("drop_path", 0.9, 1), ("cutout", 0, 0), ("jitter", "(0.5, 0.5, 0.5, 0.1)", 0), ("label_smoothing", 0.2, 0),
        ("momentum", 0.0, 1), ("weight_decay", 1.0, 0), ("clip", 1e-3, 0), ("learning_rate", 0.1, 0), ("channels", 6, 0),
        ("schedule", "exponential", 1),
    ],
)  # fmt: skip
def test_every_setting_reaches_training_when_it_should(key, value, epoch, pictures, usual):
    losses = two_epochs(pictures, **{f"retrain.{key}": value})
    differs = [not np.isclose(one, other, rtol=1e-6) for one, other in zip(losses, usual, strict=True)]
    assert differs == [epoch == 0, True]


def test_learning_rate_and_drop_path_of_the_last_epoch_are_recorded(tmp_path, monkeypatch):
    given = []
    whole = retraining.Retraining.epoch
    monkeypatch.setattr(
        retraining.Retraining, "epoch", lambda self, state, key, *a: given.append(a[:2]) or whole(self, state, key, *a)
    )
    assert run(tmp_path / "run", KEYS, **{"retrain.drop_path": 0.5, "retrain.test_every": 2}) == 0
    metrics = lines(tmp_path / "run", "metrics.jsonl")
    assert given == [(m["learning_rate"], m["drop_path"]) for m in metrics] == [(0.025, 0.0), (0.0125, 0.25)]
    assert ["test_accuracy" in m for m in metrics] == [False, True]


def test_rectangular_images_noise_and_bfloat16(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (70, 9, 13, 3), np.uint8), np.arange(70) % 3
    np.savez(tmp_path / "own.npz", train_images=pixels[:40], train_labels=labels[:40], test_images=pixels[40:],
             test_labels=labels[40:])  # fmt: skip
    genotype = ARCH.replace("nor_conv_3x3~0", "noise~0")
    keys = {**SMALL, "genotype": genotype, "stages": "retrain", "precision": "bfloat16",
            "data.source": "npz", "data.path": tmp_path / "own.npz", "data.examples": 0}  # fmt: skip
    assert run(tmp_path / "run", keys) == 0
    capsys.readouterr()
    assert predict.main([str(tmp_path / "run"), str(tmp_path / "own.npz")]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 30
    assert json.loads((tmp_path / "run" / "network.json").read_text())["dtype"] == "bfloat16"


def test_a_run_keeps_the_architecture_that_it_began_with(tmp_path, capsys):
    file = tmp_path / "genotype.txt"
    file.write_text(ARCH)
    assert run(tmp_path / "run", KEYS, genotype=file) == 0
    file.write_text(ARCH.replace("nor_conv_3x3", "nor_conv_1x1"))
    assert run(tmp_path / "run", KEYS, genotype=file) == 2
    assert f"{file} is another architecture than {tmp_path / 'run'} was begun with" in capsys.readouterr().err
    file.unlink()
    assert run(tmp_path / "run", KEYS, genotype=file) == 0
    assert (tmp_path / "run" / "genotype.txt").read_text().strip() == ARCH


def test_an_architecture_that_only_json_can_express_is_retrained(tmp_path):
    genotype = Genotype.from_text(ARCH)
    genotype = dataclasses.replace(genotype, outputs={"normal": (1, 3)})
    assert run(tmp_path / "run", KEYS, genotype=genotype.to_json(), stages="retrain,report") == 0
    assert genotype.to_json() in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.slow
def test_a_report_that_a_kill_cut_short_is_rewritten(tmp_path, monkeypatch):
    keys = {
        **TINY,
        **SMALL,
        **REPORTED,
        "retrain.cells": 3,
        "search.epochs": 1,
        "select.method": "random",
        "data.examples": 130,
    }
    assert run(tmp_path / "run", keys) == 0
    with monkeypatch.context() as patch:
        patch.setattr(report, "write", lambda settings: 1 / 0)
        assert run(tmp_path / "run", keys, stages="retrain,report") == 1
    assert "## Retrained network" not in (tmp_path / "run" / "report.md").read_text()
    assert run(tmp_path / "run", keys, stages="retrain,report") == 0
    assert "## Retrained network" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.slow
def test_the_advice_of_a_message_works(tmp_path, capsys):
    assert run(tmp_path / "run", KEYS, **{"retrain.learning_rate": 1e30}) == 1
    assert "lower retrain.learning_rate" in capsys.readouterr().err
    assert run(tmp_path / "run", KEYS) == 0
    assert run(tmp_path / "whole", KEYS) == 0
    for name in ("metrics.jsonl", "retrained.json", "network.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


SEARCHED = {"genotype": "", "stages": "search,select,retrain,report", "space": "nasbench201"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({**SEARCHED, "retrain.auxiliary": 0.4}, "the nasbench201 network has no auxiliary head"),
        ({**SEARCHED, "retrain.batch_size": 61}, "retrain.batch_size is 61, but there are 60 training images"),
        ({**SEARCHED, "retrain.form": "imagenet"}, "the imagenet network has normal, reduce"),
        ({**SEARCHED, "select.orders": 2}, "select.orders is 2, but stage retrain trains one architecture"),
        ({"retrain.cutout": 8}, "retrain.cutout is 8, which blanks whole images of 8x8"),
        ({"genotype": "DARTS_V2"}, "retrain.cells is 1, expected at least 3"),
        (
            {"data.mean": "(0.5, 0.5, 0.5)", "data.std": "(0.2, 0.2, 0.2)"},
            "need one number per channel, the images have 1",
        ),
        ({"stages": "search,select,report"}, "there is nothing to search and to select: set stages to retrain,report"),
        ({"stages": "report"}, "stage report needs retrain"),
        ({"init_from": "README.md"}, "but genotype names an architecture: leave one out"),
        ({"report.nasbench201": "README.md", "genotype": "DARTS_V2"}, "no architectures of such a genotype"),
        ({"genotype": "darts_v2"}, "did you mean DARTS_V2?"),
    ],
)
@pytest.mark.parametrize("plan", [False, True])
def test_settings_that_do_not_fit_are_refused_before_any_work(keys, message, plan, tmp_path, capsys):

    overrides = [f"--config.{key}={value}" for key, value in {**KEYS, **keys}.items()]
    argv = ["main", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'run'}", *overrides, *["--plan"] * plan]
    assert main.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_the_supernet_of_a_run_that_has_none(tmp_path, capsys):
    assert run(tmp_path / "run", KEYS) == 0
    assert run(tmp_path / "other", SMALL, init_from=tmp_path / "run", stages="select,report") == 2
    assert "it keeps no supernet after a search epoch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--genotypes=DARTS_V1,DARTS_V3"], "no published name"),
        (["--genotypes="], "no published name"),
        (["--genotypes=DARTS_V1", "--config.retrain.seed=5"], "config.retrain.seed=5 is what the sweep sets itself"),
    ],
)
def test_a_sweep_checks_all_architectures_first(more, message, tmp_path, capsys):
    overrides = [f"--config.{key}={value}" for key, value in SMALL.items()]
    argv = ["--config=configs/quickstart.py", "--config.stages=retrain,report", f"--workdir={tmp_path / 'sweep'}"]
    assert sweep.main([*argv, *overrides, *more]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "sweep").exists()


def test_a_text_makes_a_short_folder_name():
    text = published.find("darts_pt_s4_1").text("darts")
    argv = [
        "--config=configs/quickstart.py",
        "--config.stages=retrain,report",
        "--seeds=0",
        f"--config.genotype={text}",
    ]
    (commands,) = sweep.parse(argv).commands.values()
    assert len(commands[0].workdir.name) < 120


def test_a_killed_retraining_ends_like_an_undisturbed_one(tmp_path):
    keys = {**KEYS, "retrain.epochs": 4}
    process = subprocess.Popen(command(tmp_path / "killed", keys), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file, start = tmp_path / "killed" / "metrics.jsonl", time.monotonic()
    while not (file.exists() and file.stat().st_size) and time.monotonic() - start < 300:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for name in ("killed", "whole"):
        subprocess.run(command(tmp_path / name, keys), stdout=subprocess.DEVNULL, check=True)
    for name in ("metrics.jsonl", "genotype.json", "retrained.json", "network.safetensors", "network.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name

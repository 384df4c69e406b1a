"""Output for the user: progress, TensorBoard's scalars, times, drawings."""

import io
import os
import pty
import re
import subprocess

import pytest

from darts_pt_jax import ops
from darts_pt_jax.genotype import Genotype
from experiments.engine import timing
from experiments.engine.run import Unit
from experiments.engine.screen import Screen
from tests.command import CELL, command, lines, run, scalars

KEYS = {**CELL, "search.alpha": "learned", "search.epochs": 1, "select.interval": 1}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A whole run on a terminal, and its output."""
    workdir = tmp_path_factory.mktemp("screen") / "run"
    control, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"}
    process = subprocess.Popen(command(workdir, KEYS), stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(control, 65536):
            shown += chunk
    except OSError:  # Linux' end of file of a terminal
        pass
    os.close(control)
    assert process.wait() == 0, shown.decode()
    return workdir, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.mark.xdist_group("screen")
def test_a_terminal_shows_a_bar_and_finally_the_choice(done):
    _, shown = done
    assert re.search(
        r"select decision \d+/6 scoring \d+/2 loss \S+ accuracy \S+ \S+ images/s, \d:\d\d:\d\d left", shown
    )
    assert "search epoch 1/1: train_loss" in shown and "select decision 6/6: baseline" in shown
    assert "|---" not in shown, "tables are drawn, not written as Markdown"
    assert re.search(r"normal +0 +input 0 +\w+ +\d+ of 64 images", shown) and "of them compiling" in shown


@pytest.mark.xdist_group("screen")
def test_tensorboard_has_the_numbers_of_the_records(done):
    workdir, _ = done
    found = scalars(workdir)
    metrics, decisions = lines(workdir, "metrics.jsonl"), lines(workdir, "decisions.jsonl")
    assert len(metrics) == 7 and len(decisions) == 6
    for m in metrics:
        step = m.get("epoch") or m["tuning_epoch"]
        for name in ("train_loss", "valid_accuracy", "learning_rate"):
            assert found[f"{m['stage']}/{name}", step] == pytest.approx(m[name], rel=1e-6)
    for d in decisions:
        accuracy = 100 * d["baseline"]["correct"] / d["images"]
        assert found["decision/baseline_accuracy", d["decision"]] == pytest.approx(accuracy, rel=1e-6)


@pytest.mark.xdist_group("screen")
def test_times_hold_seconds_compilation_and_images_of_every_phase(done):
    workdir, _ = done
    timings = lines(workdir, "timings.jsonl")
    assert all(t["finished"] and 0 <= t["compile_seconds"] <= t["seconds"] for t in timings)
    images = {kind: sum(t["images"] for t in timings if t["type"] == kind) for kind in ("epoch", "tuning epoch")}
    batches = 2 * (64 // 32) + 64 // 32  # two for each bilevel step, and validation
    assert images == {"epoch": batches * 32, "tuning epoch": 6 * batches * 32}
    first, later = (t for t in timings if t["type"] == "tuning epoch" and t["number"] in ("1/6", "5/6"))
    assert timings[0]["compile_seconds"] > 10 * later["compile_seconds"], "compiled once"
    assert first["images"] == later["images"]
    decision = next(t for t in timings if t["type"] == "decision")
    assert decision["images"] == (64 // 32) * 32 * 6, "five candidates and the unmasked supernet"


@pytest.mark.xdist_group("screen")
def test_the_drawings_show_the_architecture(done):
    workdir, _ = done
    genotype = Genotype.from_json((workdir / "genotype.json").read_text())
    assert Genotype.from_text((workdir / "genotype.txt").read_text()) == genotype
    text = (workdir / "drawings" / "normal.svg").read_text()
    assert (workdir / "drawings" / "normal.png").read_bytes().startswith(b"\x89PNG")
    for name in ops.OPERATIONS:
        assert len(re.findall(rf">{name}<", text)) == genotype.operations("normal").count(name)
    assert "validation accuracy" in (workdir / "drawings" / "accuracy.svg").read_text()


def test_tensorboard_can_be_left_out(tmp_path):
    keys = {"tensorboard": False, "select.method": "random"}
    assert run(tmp_path / "run", KEYS, **keys) == 0
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert not (tmp_path / "run" / "drawings" / "accuracy.svg").exists(), "nothing was scored"


def test_without_a_terminal_a_long_unit_prints_lines(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    units = [Unit("search", "epoch", f"{i}/3", None) for i in (1, 2, 3)]
    output, measures = io.StringIO(), lambda: {"loss": 1.5, "accuracy": 25.0}
    screen = Screen(output)
    with screen.showing(units):
        for unit in units:
            watch = timing.Stopwatch()
            screen.begin(unit)
            for step in range(10):
                clock[0] += 15
                watch.images += 30
                screen.step(watch, "training", step + 1, 10, 30, measures)
            screen.end(watch)
    assert output.getvalue().splitlines() == [
        "search epoch 1/3: training 4/10 loss 1.5 accuracy 25 2 images/s, 0:01:30 left",
        "search epoch 1/3: training 8/10 loss 1.5 accuracy 25 2 images/s, 0:00:30 left",
        "search epoch 2/3: training 4/10 loss 1.5 accuracy 25 2 images/s, 0:01:30 left (0:04:00 in all)",
        "search epoch 2/3: training 8/10 loss 1.5 accuracy 25 2 images/s, 0:00:30 left (0:03:00 in all)",
        "search epoch 3/3: training 4/10 loss 1.5 accuracy 25 2 images/s, 0:01:30 left (0:01:30 in all)",
        "search epoch 3/3: training 8/10 loss 1.5 accuracy 25 2 images/s, 0:00:30 left (0:00:30 in all)",
    ]

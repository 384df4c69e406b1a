"""Output for the user: progress, scalars for TensorBoard and wandb, times, drawings."""

import errno
import importlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
import types

import pytest

from darts_pt_jax import ops
from darts_pt_jax.experiments import streams
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.engine import scalars as scalars_of
from darts_pt_jax.experiments.engine import timing
from darts_pt_jax.experiments.engine.interrupts import Interrupted, Interrupts
from darts_pt_jax.experiments.engine.run import Unit
from darts_pt_jax.experiments.engine.screen import Screen
from darts_pt_jax.experiments.errors import RunError
from darts_pt_jax.genotype import Genotype
from tests.command import CELL, REPORTED, command, lines, run, scalars

KEYS = {**CELL, **REPORTED, "search.alpha": "learned", "search.epochs": 1, "select.interval": 1}


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
    assert re.search(r"run: (over )?\d:\d\d:\d\d left select decision \d/6 scoring \d/2 loss \S+ accuracy \S+", shown)
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


UNITS = [
    *(Unit("search", "epoch", f"{i}/2", None) for i in (1, 2)),
    Unit("select", "begin", "", None, brief=True),
    *(Unit("select", "decision", f"{i}/2", None) for i in (1, 2)),
]
STEP = {"epoch": 15, "begin": 0, "decision": 30}
"""Seconds of a step of each unit."""


@pytest.fixture
def carry_out(monkeypatch):
    """`carry_out(screen, timings, done)` goes through `UNITS`, of 10 steps each, after `done` steps of the first.

    The first unit of each type compiles for 100 seconds.
    """
    clock, spans = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(timing, "_compilations", lambda: spans)

    def all_units(screen, timings=(), done=0):
        compiled = set()
        with screen.showing(UNITS, timings):
            for unit in UNITS:
                watch = timing.Stopwatch()
                screen.begin(unit, whole=not done)
                if unit.type not in compiled:
                    spans.append((clock[0], clock[0] + 100))
                    clock[0] += 100
                    compiled.add(unit.type)
                for step in range(done, 0 if unit.brief else 10):
                    clock[0] += STEP[unit.type]
                    watch.images += 30
                    screen.step(watch, "training", step + 1, 10, 30, lambda: {"loss": 1.5, "accuracy": 25.0})
                screen.end()
                done = 0

    return all_units


def test_without_a_terminal_lines_tell_the_time_left_of_the_run(carry_out):
    output = io.StringIO()
    carry_out(Screen(output))
    assert output.getvalue().splitlines() == [
        "search epoch 1/2: training 1/10 loss 1.5 accuracy 25 2 images/s, run: over 0:04:45 left",
        "search epoch 1/2: training 5/10 loss 1.5 accuracy 25 2 images/s, run: over 0:03:45 left",
        "search epoch 1/2: training 9/10 loss 1.5 accuracy 25 2 images/s, run: over 0:02:45 left",
        "search epoch 2/2: training 3/10 loss 1.5 accuracy 25 2 images/s, run: over 0:01:45 left",
        "search epoch 2/2: training 7/10 loss 1.5 accuracy 25 2 images/s, run: over 0:00:45 left",
        "select decision 1/2: training 1/10 loss 1.5 accuracy 25 1 images/s, run: over 0:09:30 left",
        "select decision 1/2: training 3/10 loss 1.5 accuracy 25 1 images/s, run: over 0:08:30 left",
        "select decision 1/2: training 5/10 loss 1.5 accuracy 25 1 images/s, run: over 0:07:30 left",
        "select decision 1/2: training 7/10 loss 1.5 accuracy 25 1 images/s, run: over 0:06:30 left",
        "select decision 1/2: training 9/10 loss 1.5 accuracy 25 1 images/s, run: over 0:05:30 left",
        "select decision 2/2: training 1/10 loss 1.5 accuracy 25 1 images/s, run: 0:04:30 left",
        "select decision 2/2: training 3/10 loss 1.5 accuracy 25 1 images/s, run: 0:03:30 left",
        "select decision 2/2: training 5/10 loss 1.5 accuracy 25 1 images/s, run: 0:02:30 left",
        "select decision 2/2: training 7/10 loss 1.5 accuracy 25 1 images/s, run: 0:01:30 left",
        "select decision 2/2: training 9/10 loss 1.5 accuracy 25 1 images/s, run: 0:00:30 left",
    ]


def test_a_continued_run_knows_its_time_left_from_earlier_commands(carry_out):
    """Units that several commands have shared tell nothing."""
    line = {"stage": "select", "seconds": 400.0, "compile_seconds": 100.0, "finished": True}
    shared = {"stage": "search", "type": "epoch", "number": "0/2", "seconds": 1.0, "compile_seconds": 0.0}
    timings = [
        {**line, "type": "decision", "number": "0/2"}, {**shared, "finished": False}, {**shared, "finished": True},
    ]  # fmt: skip
    output = io.StringIO()
    carry_out(Screen(output), timings, done=6)
    said = [line.partition("run: ")[2] for line in output.getvalue().splitlines()]
    # 3 steps are left; the next epoch is taken to be as long as what this command has seen of the first, at least
    assert said[0] == "over 0:11:45 left"
    assert said[1:3] == ["over 0:12:15 left", "over 0:11:15 left"]
    assert said[-1] == "0:00:30 left"


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("0", 80)])
def test_a_terminal_of_60_columns_shows_the_time_left_of_the_run(carry_out, monkeypatch, columns, width):
    for name, value in {"TERM": "xterm-256color", "COLUMNS": columns, "LINES": "0"}.items():
        monkeypatch.setenv(name, value)
    control, terminal = pty.openpty()
    with open(terminal, "w") as file:
        carry_out(Screen(file))
        shown = os.read(control, 65536).decode()
    os.close(control)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").splitlines()
    shown = [line for line in lines if "left" in line]
    assert shown and all(len(line) <= width for line in shown)
    assert any(re.search(r" run: 0:0\d:\d\d left select decision 2/2", line) for line in shown), lines


@pytest.mark.parametrize(("error", "reason"), [(errno.EPIPE, "Broken pipe"), (errno.ENOSPC, "No space left on device")])
def test_output_that_nothing_takes_asks_the_run_to_stop(error, reason, monkeypatch, capfd):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(streams, "close", lambda stream: None)
    with Interrupts() as stop:
        screen = Screen(Full(), stop)
        with pytest.raises(
            Interrupted, match=rf"stopped by SIGPIPE at once \(standard output: {reason}\): "
        ) as stopped:
            screen.say("lost")
        stop.received, stop.saves = None, True
        screen.say("lost")
        screen.say("lost too")
    assert stop.received == signal.SIGPIPE and stopped.value.code == 141
    assert (
        capfd.readouterr().err
        == f"standard output: {reason}: finishing the step, then saving; a second signal stops at once\n"
    )


class FakeWandB(types.ModuleType):
    """Takes the place of the package; a run there keeps its steps, as the service does."""

    def __init__(self):
        super().__init__("wandb")
        self.Settings, self.begun, self.history, self.axes = dict, [], {}, {}

    def init(self, **how):
        self.begun.append(how)
        return self

    @property
    def step(self):
        return len(self.history)

    def define_metric(self, name, step_metric):
        self.axes[name] = step_metric

    def log(self, values, step):
        assert step == len(self.history)
        self.history[step] = values

    def finish(self):
        self.begun[-1]["finished"] = True


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandB()
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_gets_every_line_once(wandb, tmp_path):
    keys = {**KEYS, "wandb": True, "tensorboard": False, "select.method": "magnitude_tuned"}
    assert run(tmp_path / "run", keys, stages="search") == 0
    assert run(tmp_path / "run", keys, stages="search,select") == 0
    first, second = wandb.begun
    assert first["id"] == second["id"] == (tmp_path / "run/wandb/id").read_text() and first["finished"]
    assert first["config"]["search.epochs"] == 1 and first["project"] == "darts-pt-jax"
    metrics, decisions = lines(tmp_path / "run", "metrics.jsonl"), lines(tmp_path / "run", "decisions.jsonl")
    assert len(wandb.history) == len(metrics) + len(decisions) == 13
    assert wandb.history[0]["search/train_loss"] == metrics[0]["train_loss"] and wandb.history[0]["search/number"] == 1
    margins = [row["decision/margin"] for row in wandb.history.values() if "decision/margin" in row]
    assert margins == [d["margin"] for d in decisions]
    assert wandb.axes["select/*"] == "select/number"


def test_wandb_that_does_not_begin_is_one_line(wandb, tmp_path, capsys, monkeypatch):
    def refused(**_):
        raise ValueError("no API key configured.")

    monkeypatch.setattr(wandb, "init", refused)
    with pytest.raises(RunError, match=r"wandb: ValueError: no API key configured: mend that, set WANDB_MODE=offline"):
        scalars_of.loggers(Config().changed({"wandb": True, "tensorboard": False}), tmp_path, [])
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(tmp_path / "run", KEYS, wandb=True) == 2
    assert "wandb is True, but its package is missing: pip install -e '.[wandb]'" in capsys.readouterr().err

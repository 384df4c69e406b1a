"""Sweeps: what they run and skip, the table, a run that fails, a sweep that is killed."""

import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pytest

from darts_pt_jax.experiments import sweep
from darts_pt_jax.experiments.engine import locks
from darts_pt_jax.experiments.launching import local
from darts_pt_jax.experiments.reporting import table

KEYS = {
    "space": "cell", "data.examples": 130, "data.size": 4, "supernet.channels": 2,
    "search.epochs": 4, "search.batch_size": 32, "select.method": "magnitude", "tensorboard": False,
    "retrain.cells": 1, "retrain.channels": 2, "retrain.epochs": 2, "report.latency": False,
}  # fmt: skip


def arguments(workdir, seeds="0,1", *more, **keys):
    overrides = [f"--config.{k}={v}" for k, v in {**KEYS, **keys}.items()]
    return ["--config=tests/config.py", f"--seeds={seeds}", f"--workdir={workdir}", *overrides, *more]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep of two seeds by one command, and its output."""
    workdir, printed = tmp_path_factory.mktemp("sweep") / "sweep", []
    assert sweep.main(arguments(workdir), printed.append) == 0
    return workdir, printed


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
def test_the_table_has_every_seed_mean_deviation_and_best_of_every_selection(done):
    workdir, _ = done
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (workdir / "table.md").read_text().splitlines()
            if line.startswith("| validation accuracy after")]  # fmt: skip
    assert [row[1] for row in rows] == ["by magnitude", "by random"]
    for row, suffix in zip(rows, ("", "-random"), strict=True):
        values = [records(workdir / f"seed{seed}{suffix}")[-1]["valid_accuracy"] for seed in (0, 1)]
        expected = [*values, statistics.mean(values), statistics.stdev(values), max(values)]
        assert [float(cell) for cell in row[2:]] == pytest.approx(expected, rel=0.05)
    assert not list(workdir.glob("*.lock")), "nothing of the launchers is left"
    found = json.loads((workdir / "table.json").read_text())
    assert found["random"]["1"]["genotype"] == (workdir / "seed1-random" / "genotype.txt").read_text().strip()
    search = [[m for m in records(workdir / f"seed1{s}") if m["stage"] == "search"] for s in ("", "-random")]
    assert search[0] == search[1], "the selections share the supernet"


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
def test_finished_runs_are_skipped_and_missing_ones_are_run(done):
    workdir, printed = done
    assert printed[0] == "4 runs, 0 of them done already"
    shutil.rmtree(workdir / "seed1-random")
    before, text = os.stat(workdir / "seed0" / "run.json"), (workdir / "table.md").read_text()
    again = []
    assert sweep.main(arguments(workdir), again.append) == 0
    assert again[0] == "4 runs, 3 of them done already"
    assert next(text for text in again if "experiments.main" in text).startswith(str(workdir / "seed1-random"))
    assert (workdir / "table.md").read_text() == text
    assert os.stat(workdir / "seed0" / "run.json").st_mtime_ns == before.st_mtime_ns


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_done(tmp_path, capsys):
    workdir = tmp_path / "sweep"
    (workdir / "seed1-random").mkdir(parents=True)
    (workdir / "seed1-random" / "mine.txt").write_text("in the way")
    assert sweep.main(arguments(workdir, "0,1", "--beside=random"), print) == 2
    assert "holds something other than a run" in capsys.readouterr().err and not (workdir / "seed0").exists()
    shutil.rmtree(workdir / "seed1-random")
    with pytest.MonkeyPatch.context() as patch:  # seed 0 is killed in its search, with a supernet kept
        patch.setattr(local, "execute", killed_in_its_search(workdir / "seed0"))
        assert sweep.main(arguments(workdir, "0,1", "--beside=random", "--retries=0"), print) == 1
    captured = capsys.readouterr()
    assert (
        f"2 of 4 runs failed: {workdir / 'seed0'} (exit code -9), {workdir / 'seed0-random'} (needs seed0)"
        in captured.err
    )
    assert "| by random | missing |" in captured.out and (workdir / "seed1-random" / "report.md").exists()
    assert not (workdir / "seed0-random").exists(), "nothing is selected from a half-trained supernet"
    shutil.rmtree(workdir / "seed1" / "checkpoints")  # and seed 1 has lost its checkpoints
    assert sweep.main(arguments(workdir, "0,1", "--beside=random", "--retries=0"), print) == 1
    captured = capsys.readouterr()
    assert f"1 of 4 runs failed: {workdir / 'seed1'} (exit code 1)" in captured.err and "missing" in captured.out
    assert (workdir / "seed0-random" / "report.md").exists(), "seed 0 was continued"


def test_a_lock_file_stays_as_long_as_a_process_holds_the_lock(tmp_path):
    file = tmp_path / "seed0.lock"
    locks.discard(file)
    with locks.locked(file):
        locks.discard(file)
        assert file.exists()
    locks.discard(file)
    assert not file.exists()


def killed_in_its_search(workdir):
    """Replaces `local.execute`: kills the run in `workdir` as soon as it has a search epoch."""

    def execute(run, whole=local.execute):
        if run.workdir != workdir:
            return whole(run)
        process = subprocess.Popen(run.command)
        while not (workdir / "metrics.jsonl").exists() or not (workdir / "metrics.jsonl").read_text():
            time.sleep(0.01)
        process.kill()
        return process.wait()

    return execute


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
def test_a_killed_sweep_gives_the_same_table(done, tmp_path):
    workdir = tmp_path / "sweep"
    command = [sys.executable, "-m", "experiments.sweep", *arguments(workdir)]

    def begun(name, file):
        deadline = time.monotonic() + 300
        while not (workdir / name / file).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun("", "seed0.lock")
    time.sleep(0.5)  # the run has begun, but has not yet locked its directory
    process.send_signal(signal.SIGKILL)  # its run continues alone, and the next waits for it
    process.wait()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun("seed1", "run.json")
    process.send_signal(signal.SIGTERM)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 143 and "stopped by SIGTERM" in error
    assert "waiting for process" in output
    assert not (workdir / "seed1" / "report.md").exists() and not (workdir / "table.md").exists()
    assert sweep.main(arguments(workdir), print) == 0
    assert (workdir / "table.md").read_bytes() == (done[0] / "table.md").read_bytes()
    assert (workdir / "table.json").read_bytes() == (done[0] / "table.json").read_bytes()
    moved, printed = tmp_path / "elsewhere", []
    workdir.rename(moved)
    assert sweep.main(arguments(moved), printed.append) == 0
    assert printed[0] == "4 runs, 4 of them done already"
    assert (moved / "table.md").read_bytes() == (done[0] / "table.md").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=0,x"], "--seeds is '0,x', expected whole numbers or ranges such as 0-3,7"),
        (["--seeds=3-1"], "--seeds is '3-1', whose range 3-1 ends before it begins"),
        (["--seeds=0-3,2"], "names a seed twice"),
        (["--seeds=1,1"], "names a seed twice"),
        (["--seeds=0", "--config.seed=3"], "--config.seed=3 is what the sweep sets itself"),
        (["--seeds=0", "--config.search.epoch=3"], "did you mean search.epochs?"),
        (["--seeds=0", "--beside=magnitde"], "expected one of"),
        (["--seeds=0", "--beside=magnitude", "--config.search.alpha=fixed"], "leaves no magnitude to select by"),
        (["--seeds=-1"], "--seeds is '-1', expected whole numbers"),
        (["--seeds=0", "--config.seed", "3"], "--config.seed is what the sweep sets itself"),
        (["--seeds=0", "--plan"], "a sweep has no --plan"),
        (["--seeds=0", "--config.data.source=npz", "--config.data.path=none.npz"], "none.npz: no such file"),
        (["--seeds=0", "--config.search.seed=2"], "--config.search.seed=2 is what the sweep sets itself"),
        (["--seeds=0", "--config.select.orders=2"], "a sweep compares single selections"),
    ],
)
def test_a_wrong_command_is_refused_before_any_run(arguments, message, tmp_path, capsys):
    place = ["--config=configs/quickstart.py", f"--workdir={tmp_path / 'sweep'}"]
    assert sweep.main([*place, *arguments], print) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "sweep").exists()


def test_fixed_alphas_are_not_selected_by_magnitude():
    config = ["--config=configs/methods_s3_small.py:fixed", "--seeds=5,1-3"]
    asked = sweep.parse(config)
    assert asked.seeds == [5, 1, 2, 3]
    assert asked.workdir == pathlib.Path("runs/methods_s3_small-fixed-sweep")
    assert list(asked.commands) == ["perturbation", "random"] and "no magnitude" in asked.left_out["magnitude"]
    assert asked.commands["random"][3].config.init_from == str(pathlib.Path.cwd() / asked.workdir / "seed3")


def test_selections_without_scores_drop_the_keys_that_only_scores_can_obey():
    keys = ("race=0.9", "order=certain", "images=640")
    given = ["--config=configs/quickstart.py", "--seeds=0", *(f"--config.select.{key}" for key in keys)]
    asked = sweep.parse(given)
    selects = {name: by_seed[0].config.select for name, by_seed in asked.commands.items()}
    assert not asked.left_out and {select.images for select in selects.values()} == {640}
    assert {name: (select.race, select.order) for name, select in selects.items()} == {
        "perturbation": (0.9, "certain"), "magnitude": (0, "random"), "random": (0, "random"),
    }  # fmt: skip


@pytest.mark.slow
def test_architectures_are_retrained_side_by_side(tmp_path, capsys):
    arch = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    (tmp_path / "pools.txt").write_text(arch.replace("nor_conv_1x1", "avg_pool_3x3"))
    given, workdir = f"{arch},{tmp_path / 'pools.txt'}", tmp_path / "sweep"
    argv = arguments(workdir, "3", f"--genotypes={given}", stages="retrain,report")
    assert sweep.main(argv) == 0
    found = json.loads((workdir / "table.json").read_text())
    assert list(found) == given.split(",") and all(list(seeds) == ["3"] for seeds in found.values())
    with_conv, pools = (seeds["3"]["values"] for seeds in found.values())
    name = "parameters of the retrained network"
    assert with_conv[name] > pools[name] and 0 <= pools["test accuracy after retraining, last epoch, %"] <= 100
    assert f"| {name} | {arch.replace('|', chr(92) + '|')} |" in (workdir / "table.md").read_text()
    capsys.readouterr()
    assert sweep.main([*argv, "--beside=random"]) == 2
    assert "there is no selection beside a given genotype" in capsys.readouterr().err
    twice = arguments(workdir, "3", f"--genotypes={arch},{arch}", stages="retrain,report")
    assert sweep.main(twice) == 2
    assert "two would share a run directory" in capsys.readouterr().err


def test_runs_with_different_results_share_one_table(tmp_path):
    """For example, only one of them was retrained."""
    values = {0: {"a, %": 1.0, "b, %": 2.0, "parameters": 12345}, 1: {"a, %": 3.0}}
    results = {"perturbation": {seed: {"values": found, "genotype": "x"} for seed, found in values.items()}}
    text = table.write(tmp_path, results, [0, 1], True).splitlines()
    assert "| a, % | by perturbation | 1.00 | 3.00 | 2.00 | 1.41 | 3.00 |" in text
    assert "| b, % | by perturbation | 2.00 | missing | 2.00 |  | 2.00 |" in text
    assert "| parameters | by perturbation | 12,345 | missing | 12,345.00 |  |  |" in text
    assert (tmp_path / "table.json").exists() and (tmp_path / "table.md").read_text().splitlines() == text

"""Runs through all stages, killed at random moments and restarted each time, end like an undisturbed run."""

import random
import subprocess
import time

import pytest

from tests.command import SOAK, TINY, command, lines, same_results, same_state

pytestmark = pytest.mark.slow

KILLS = 30 if SOAK else 1

KEYS = {
    **TINY, "space": "nasbench201", "search.alpha": "fixed", "select.interval": 2,
    "data.examples": 300, "search.epochs": 3, "search.batch_size": 16,
    "stages": "search,select,retrain,report", "retrain.cells": 1, "retrain.epochs": 3, "retrain.auxiliary": 0,
    "checkpoint.minutes": 0.002,
}  # fmt: skip


def begin(workdir):
    return subprocess.Popen(command(workdir, KEYS), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A whole run, and its duration in seconds."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    start, process = time.monotonic(), begin(workdir)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return workdir, time.monotonic() - start


def same(one, two):
    same_results(one, two)
    for name in ("retrained.json", "network.json", "network.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    for folder in ("checkpoints", "snapshots"):
        same_state(one, two, folder)


@pytest.mark.xdist_group("kills")
def test_killed_at_random_moments_it_ends_with_the_same_bits(undisturbed, tmp_path):
    whole, seconds = undisturbed
    moments, kills, runs = random.Random(0), 0, 0
    while kills < KILLS:
        workdir, runs, finished = tmp_path / str(runs), runs + 1, False
        while not finished:
            process = begin(workdir)
            try:
                said = process.communicate(timeout=moments.uniform(0.2, 1) * seconds)[1]
                assert process.returncode == 0, said
                finished = True
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
        same(whole, workdir)
        assert lines(workdir, "timings.jsonl"), "no line is torn"
        assert not list(workdir.glob("*-damaged")), "a kill leaves no damaged checkpoint"
    print(f"{kills} kills of {runs} runs")

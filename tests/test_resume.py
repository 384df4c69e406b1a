"""Runs in separate processes that are killed or told to stop end like undisturbed ones."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.command import REPORTED, SOAK, command, same_results, same_state, scalars

pytestmark = pytest.mark.slow

KEYS = {
    "space": "cell",
    "data.examples": 400,
    "search.epochs": 2,
    "search.batch_size": 16,
    "select.images": 64,
    "select.interval": 1,
    "stages": "search,select",
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts the command on a run directory; all commands share one compilation cache."""
    cache = str(tmp_path_factory.mktemp("cache"))
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    del environment["JAX_COMPILATION_CACHE_MAX_SIZE"]  # one process after another needs no lock
    for name in ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"):
        environment[name] = "0"

    def begin(workdir, streams=None, shell=(), **more):
        pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **(streams or {})}
        return subprocess.Popen([*shell, *command(workdir, {**KEYS, **more})], env=environment, **pipe)

    return begin


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(workdir))
    return workdir


def finish(process):
    said = process.communicate()[1]
    assert process.returncode == 0, said


def position(workdir):
    """The position of the newest checkpoint on the disk."""
    try:
        numbers = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
        return json.loads((workdir / "checkpoints" / str(max(numbers)) / "position" / "metadata").read_text())
    except (OSError, ValueError):
        return {"units": 0, "within": []}


def within(units, loop, done):
    """The moment when `done` steps of loop `loop` are saved, in the unit after `units` units."""

    def reached(workdir):
        at = position(workdir)
        begun = at["within"]
        return at["units"] == units and len(begun) == loop + 1 and begun[-1]["done"] >= done

    return reached


def lines(name, count):
    def reached(workdir):
        return (workdir / name).exists() and (workdir / name).read_bytes().count(b"\n") >= count

    return reached


def half_written(workdir):
    """Checkpoints that are being written, or whose writing was interrupted."""
    return [p for p in (workdir / "checkpoints").glob("*tmp*") if p.is_dir()]


def writing(after):
    """The moment when a checkpoint is being written, after at least `after` units."""
    return lambda workdir: position(workdir)["units"] >= after and half_written(workdir)


def exists(name):
    return lambda workdir: (workdir / name).exists()


def send(process, workdir, reached, number):
    """Sends a signal at a moment, which must come before the process ends; returns the output on stderr."""
    deadline = time.monotonic() + 120
    while not reached(workdir):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate()[1]


def same(one, two):
    same_results(one, two)
    if (one / "report.md").exists():  # the report makes the files of TensorBoard anew
        assert scalars(one) == scalars(two)
    same_state(one, two)


def long(*moments):
    """Moments for the long form only."""
    return moments if SOAK else ()


# Units: 2 search epochs, the selection's beginning, then 6 decisions, each with a tuning epoch, and the genotype.
MOMENTS = {
    "search": [within(0, 0, 4), *long(within(0, 1, 2), lines("metrics.jsonl", 1)), writing(1)],
    "select": [
        within(3, 0, 2),
        *long(lines("decisions.jsonl", 1)),
        within(4, 0, 5),
        writing(7),
        *long(within(11, 0, 1)),
    ],
    "report": [*long(exists("genotype.txt")), exists("drawings/normal.svg"), *long(exists("report.md"))],
}


def kill_at(moments, begin, workdir):
    """Kills the run at every moment in turn; repeats a kill that came too late for a half-written checkpoint."""
    for reached in moments:
        for _ in range(5):
            process = begin()
            send(process, workdir, reached, signal.SIGKILL)
            assert process.returncode == -signal.SIGKILL
            if "writing" not in reached.__qualname__ or half_written(workdir):
                break
        else:
            pytest.fail("five kills hit no checkpoint in writing")


@pytest.mark.parametrize("stage", [pytest.param(s, marks=pytest.mark.xdist_group(f"kill {s}")) for s in MOMENTS])
def test_killed_anywhere_it_ends_with_the_same_bits(stage, start, undisturbed, tmp_path):
    whole, workdir, keys = undisturbed, tmp_path / "run", {}
    if stage == "report":
        whole, keys = shutil.copytree(undisturbed, tmp_path / "whole"), REPORTED
        finish(start(whole, **keys))
    kill_at(MOMENTS[stage], lambda: start(workdir, **keys, **{"checkpoint.minutes": 0}), workdir)
    finish(start(workdir, **keys))
    same(whole, workdir)


@pytest.mark.xdist_group("kill select")
def test_killed_after_a_restriction_it_ends_with_the_same_bits(start, undisturbed, tmp_path):
    keys = {"stages": "select", "init_from": undisturbed, "select.restrict_every": 2}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, **keys))
    # Units: the adoption, the beginning, then decision, tuning, decision, restriction, tuning, and so on.
    moments = [*long(within(6, 0, 2), lines("decisions.jsonl", 4)), within(11, 0, 3)]
    kill_at(moments, lambda: start(killed, **keys, **{"checkpoint.minutes": 0}), killed)
    finish(start(killed, **keys))
    same(whole, killed)
    assert json.loads((whole / "run.json").read_text())["config"]["select.restrict_every"] == 2


@pytest.mark.xdist_group("kill report")
def test_killed_selections_of_another_run_end_with_the_same_bits(start, undisturbed, tmp_path):
    keys = {"stages": "select,report", "init_from": undisturbed, "select.method": "magnitude_tuned", "select.orders": 2}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, **keys))
    moments = [
        *long(exists("metrics.jsonl")),
        lines("decisions.jsonl", 2),
        *long(exists("genotype.json")),
        lines("decisions.jsonl", 8),
    ]
    kill_at(moments, lambda: start(killed, **keys), killed)
    finish(start(killed, **keys))
    same(whole, killed)
    assert (whole / "genotype_order2.json").read_bytes() == (killed / "genotype_order2.json").read_bytes()


@pytest.mark.xdist_group("kill search")
def test_told_to_stop_it_saves_the_step_and_says_how_to_continue(start, undisturbed, tmp_path):
    workdir = tmp_path / "run"
    for moment, number, code, where in [
        (within(0, 0, 2), signal.SIGTERM, 143, "search epoch 1/2, after training step "),
        (within(3, 0, 1), signal.SIGINT, 130, "select decision 1/6, after scoring step "),
        (lines("decisions.jsonl", 2), signal.SIGTERM, 143, "select "),
    ]:
        process = start(workdir, **{"checkpoint.minutes": 0})
        said = send(process, workdir, moment, number)
        assert process.returncode == code, said
        assert f"stopped by {number.name} in {where}" in said and "the same command continues from there" in said
        assert said.count("\n") == 2 and "finishing the step" in said
    finish(start(workdir))
    same(undisturbed, workdir)


@pytest.mark.xdist_group("kill search")
def test_it_stops_and_saves_whatever_its_streams_are(start, undisturbed, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir, {"stderr": None}, ["sh", "-c", 'exec "$@" 2>&-', "sh"], **{"checkpoint.minutes": 0})
    send(process, workdir, within(0, 0, 2), signal.SIGTERM)
    assert process.returncode == 143 and within(0, 0, 2)(workdir), "the step is saved"
    assert (workdir / "lock").read_text().startswith(f"process {process.pid} on "), "the lock is no stream"

    process = start(workdir, {"stdout": subprocess.PIPE})
    assert [process.stdout.readline().split()[0] for _ in range(2)] == ["continuing", "compiling:"]
    process.stdout.close()
    said = process.communicate()[1]
    assert process.returncode == 141, said
    assert said.startswith("standard output: Broken pipe: finishing the step, then saving; ") and said.count("\n") == 2
    assert "stopped by SIGPIPE in search epoch 1/2, which is done: the same command continues from there" in said
    finish(start(workdir))
    same(undisturbed, workdir)

"""Runs the command as tests need it, and reads its files."""

import hashlib
import json
import os
import signal
import struct
import sys

import numpy as np
from tensorboardX.proto.event_pb2 import Event

from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.experiments import main
from darts_pt_jax.selection import strategies
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.racing import finalists

TINY = {
    "space": "tiny",
    "supernet.cells": 1,
    "data.examples": 130,
    "search.epochs": 2,
    "search.batch_size": 32,
    "select.images": 64,
    "retrain.cells": 3,
    "retrain.channels": 4,
    "stages": "search,select",
}
"""A small run without a report, which would take half of its time."""

REPORTED = {"stages": "search,select,report"}
CELL = {**TINY, "space": "cell", "search.alpha": "fixed", "select.interval": 2}


def arguments(workdir, **overrides):
    keys = [f"--config.{k}={v}" for k, v in {"report.latency": False, **overrides}.items()]
    return ["main", "--config=tests/config.py", f"--workdir={workdir}", *keys]


def run(workdir, keys, **more):
    return main.main(arguments(workdir, **{**keys, **more}))


def lines(workdir, name):
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def digests(workdir):
    """Modification times of all files and folders, and the contents of the files."""
    content = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in workdir.rglob("*") if p.is_file()}
    return {p: (p.stat().st_mtime_ns, content.get(p)) for p in workdir.rglob("*")}


def stopping_at(number, whole):
    """Replaces a function; its `number`-th call also sends a signal that asks the run to stop."""
    calls = iter(range(1, 1000))

    def method(*args):
        result = whole(*args)
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    return method


def command(workdir, keys):
    return [sys.executable, "-m", "experiments.main", *arguments(workdir, **keys)[1:]]


RESULTS = ("metrics.jsonl", "decisions.jsonl", "genotype.json", "genotype.txt")


def scalars(workdir):
    """{(tag, step): value} in TensorBoard's file, whose records are length, checksum, event, checksum."""
    (file,) = (workdir / "tensorboard").iterdir()
    content, at, found = file.read_bytes(), 0, {}
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        for value in event.summary.value:
            assert (value.tag, event.step) not in found, "no number appears twice"
            found[value.tag, event.step] = value.simple_value
        at += length + 16
    return found


SOAK = "DARTS_PT_SOAK" in os.environ
"""Whether tests take their long forms (`make soak`)."""


def same_state(one, two, folder="checkpoints"):
    """Compares the newest checkpoints of two runs, bit by bit."""
    opened = [Checkpoints(workdir / folder, read_only=True) for workdir in (one, two)]
    theirs, ours = (checkpoints.arrays(checkpoints.latest()) for checkpoints in opened)
    assert theirs.keys() == ours.keys() and any("params" in name for name in theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, ours[name], err_msg=name)


def same_results(one, two):
    """Compares the records of two runs, and their reports if the first has one."""
    for name in (*RESULTS, *(file.name for file in one.glob("report.md"))):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def recomputed(decision):
    """Recomputes the choice of a decision from its line."""
    criterion = CRITERIA[decision["criterion"]]
    if decision["type"] == "operation":
        strategy = strategies.strategy_of(decision)
        if strategy.masks is None:
            return decision["candidates"][max(decision["eligible"], key=lambda o: decision["first_order"][o])]
        eligible = finalists(decision, decision["eligible"])
        return decision["candidates"][strategy.choose(criterion.harms(decision), eligible)[0]]
    edges = list(decision["passes"][0]["edges"])
    for one in decision["passes"]:
        assert one["edges"] == edges
        dropped = strategies.least_harmful(criterion.harms(one), finalists(one, range(len(edges))))[0]
        assert edges.pop(dropped) == one["removed"]
    return edges

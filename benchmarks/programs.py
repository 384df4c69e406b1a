"""What of ours is measured, as a run has it: `experiments.training` on random images of random classes.

Seconds are medians of --runs calls, after one that compiles and is not counted.
"""

import argparse
import collections
import functools
import math
import pathlib
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from configs import common
from darts_pt_jax import architecture, bilevel
from darts_pt_jax.bilevel import Batch, SearchState
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.data import batches
from darts_pt_jax.data.images import Images
from darts_pt_jax.devices import Devices
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.record import JsonLines
from darts_pt_jax.selection import scoring, strategies
from darts_pt_jax.spaces import as_lists
from experiments.config.schema import Config, frozen
from experiments.engine import directory
from experiments.engine.scalars import Scalars
from experiments.engine.timing import covered
from experiments.training.steps import Epoch
from experiments.training.supernet import Training


def make_config(args: argparse.Namespace) -> Config:
    """The config of a run of the given sizes."""
    config = common.get_config()
    config.space = args.space
    config.supernet.cells, config.supernet.channels = args.cells, args.channels
    config.search.batch_size, config.search.gradients = args.batch, args.gradients
    config.data.mean, config.data.std = (0.5,) * 3, (0.25,) * 3
    return frozen(config)


def random_images(count: int, size: int, classes: int) -> Images:
    """A data set without meaning, padded and flipped as CIFAR-10 is."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    labels = rng.integers(0, classes, count, np.int32)
    return Images(pixels, labels, pixels[:1], labels[:1], pad=size // 8, flip=True)


def make(config: Config, args: argparse.Namespace) -> tuple[Training, SearchState, int]:
    """A supernet with a fresh state, and the parameters that it had before --decided edges lost their candidates."""
    training = Training(config, random_images(args.images, args.size, args.classes), Devices.here(args.devices))
    state = training.initial_state(jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if args.decided:
        training, state = with_decided(training, state, args.decided)
    return training, jax.block_until_ready(state), parameters


def with_decided(training: Training, state: SearchState, count: int | None = None) -> tuple[Training, SearchState]:
    """A supernet whose first `count` edges (all by default) of every kind have one operation left, by turns; its state."""
    decisions = state.decisions
    for kind, graph in training.space.cells.items():
        for e, edge in enumerate(graph.edges[:count]):
            decisions = decisions.choose(kind, e, e % len(edge.candidates))
    part = training.restricted(decisions)
    state = state.replace(decisions=decisions)
    return part, bilevel.restrict(state, training.net, part.net, part.abstract_state())


class Meter:
    """Takes times, and hears what jax traces, lowers and compiles meanwhile; one for a process."""

    PARTS: ClassVar = {
        "trace": "/jax/core/compile/jaxpr_trace_duration",
        "lower": "/jax/core/compile/jaxpr_to_mlir_module_duration",
        "compile": "/jax/core/compile/backend_compile_duration",
    }

    def __init__(self, runs: int):
        """Counts `runs` calls of what it measures."""
        self.runs, self._listening, self._spans = runs, False, []
        jax.monitoring.register_event_time_span_listener(self._listen)

    def _listen(self, event: str, begin: float, end: float, fun_name: str = "", **_):
        if self._listening and event in self.PARTS.values():
            self._spans.append((event, begin, end, fun_name))

    def seconds(self, work: Callable[[], object]) -> float:
        """The median of calls of `work` and of all that it gives to the device; NaN of no runs."""
        self._listening, seconds = True, []
        for _ in range(1 + self.runs):
            start = time.perf_counter()
            jax.block_until_ready(work())
            seconds.append(time.perf_counter() - start)
        self._listening = False
        return statistics.median(seconds[1:]) if self.runs else float("nan")

    def compilations(self) -> dict:
        """What was heard since the last call of this: seconds in all, of each part, and of each program's compilation.

        Programs are [name, seconds] in the order of their compilation, without those under 0.1 seconds.
        """
        spans, self._spans = self._spans, []
        parts = {part: [s for s in spans if s[0] == event] for part, event in self.PARTS.items()}
        seconds = {name: _seconds(of_part) for name, of_part in {"all": spans, **parts}.items()}
        programs = [[name, round(end - begin, 3)] for _, begin, end, name in parts["compile"] if end - begin >= 0.1]
        return {**seconds, "programs": programs}


def _seconds(spans: Sequence[tuple]) -> float:
    return round(covered((begin, end) for _, begin, end, _ in spans), 3)


def forward(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """forward_s: a pass with the batch's statistics over prepared images."""
    shape = args.batch, *training.image_shape
    images, labels = jax.random.normal(jax.random.key(1), shape), jnp.arange(args.batch) % args.classes

    @training.devices.jit
    def run(state):
        weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
        return bilevel.forward(training.net, state.variables, weights, images, labels, jax.random.key(2), True)

    return {"forward_s": meter.seconds(lambda: run(state))}


def step(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """bilevel_step_s: drawing, cropping and flipping of its two batches are part of it. Uses the state up."""
    keys = jax.random.split(jax.random.key(1), 3)
    train = training.indices(keys[0], training.train, "independent", 1 + meter.runs)
    valid = training.indices(keys[1], training.valid, "independent", 1 + meter.runs)
    split = training.devices.split
    epoch = Epoch(training.train, split(train), training.valid, split(valid), keys[2], 0.025, 0.0)
    number, current = iter(range(1 + meter.runs)), (state, Metrics.zero())

    def run():
        nonlocal current
        current = training.programs.step(next(number), *current, epoch)
        return current

    return {"bilevel_step_s": meter.seconds(run)}


def score(kind: str, training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """score_s, by kind: all removals of its last edge and the unmasked supernet in one call, on one batch."""
    masks = strategies.without_operations(training.space, kind, len(training.space.cells[kind].edges) - 1)
    masks = np.concatenate([np.ones_like(masks[:1]), masks])
    masks = jnp.asarray(scoring.filled_up(masks, training.masks(kind)))
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    indices = training.indices(jax.random.key(1), training.valid, "epoch", 1)[0]
    batch = training.valid, indices, jax.random.key(2)
    scorer = training.scorer(kind)
    return {f"score_{kind}_s": meter.seconds(lambda: scorer(state.variables, weights, masks, batch))}


def pipeline(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """pipeline_s, of a step: an epoch's indices over its steps, and both batches cropped, flipped and normalised."""
    halves = {"train": training.train, "valid": training.valid}
    make_batch, key, of_step = jax.jit(batches.batch), jax.random.key(1), 0.0
    for half in halves.values():
        draw = functools.partial(training.indices, key, half, "independent", training.steps)
        indices = draw()[0]
        of_step += meter.seconds(draw) / training.steps
        of_step += meter.seconds(functools.partial(make_batch, half, indices, key))
    return {"pipeline_s": of_step}


def records(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """records_s: what ends an epoch: its lines of metrics and times, TensorBoard's scalars, a checkpoint."""
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    entry = {"stage": "search", "learning_rate": 0.025, "train_loss": 1.5, "train_accuracy": 50.5, "valid_loss": 1.5,
             "valid_accuracy": 50.5, "edge_weights": as_lists(weights, training.space)}  # fmt: skip
    time_entry = {"stage": "search", "type": "epoch", "number": "1/50", "seconds": 1.5, "images": 50000}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        metrics, timings = JsonLines(folder / "metrics.jsonl"), JsonLines(folder / "timings.jsonl")
        checkpoints, scalars = Checkpoints(folder / "checkpoints", keep=2), Scalars(folder / "tensorboard", [])
        number = iter(range(1 + meter.runs))

        def run():
            epoch = next(number)
            metrics.append(epoch=epoch, **entry)
            scalars.add({"epoch": epoch, **entry})
            timings.append(**time_entry)
            checkpoints.save(epoch, state, directory.beginning())

        seconds = meter.seconds(run)
        scalars.close()
    return {"records_s": seconds}


def collectives(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """collectives: by program and operation, the bytes of each one's result. They are compiled for it, and do not run."""
    indices = training.devices.split(np.arange(args.batch))
    batch = training.train, indices, jax.random.key(1)
    found = {}
    for name in ("params", "alphas"):
        gradient = bilevel.make_gradient(training.net, (name,))

        def of_batch(state, dataset, indices, key, gradient=gradient):
            augment_key, noise_key = jax.random.split(key)
            return gradient(state, Batch(*batches.batch(dataset, indices, augment_key), noise_key))

        found[f"gradient of {name}"] = in_program(training.devices.jit(of_batch).trace(state, *batch))
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    for kind, graph in training.space.cells.items():
        masks = np.ones((training.masks(kind), len(graph.edges), graph.width), np.float32)
        traced = training.scorer(kind).trace(state.variables, weights, masks, batch)
        found[f"scorer of {kind} edges"] = in_program(traced)
    return {"collectives": found}


def in_program(traced: jax.stages.Traced) -> dict[str, list[int]]:
    """The collective operations that a program is compiled to: the bytes of the result of each.

    As on CPUs, where none is begun and awaited apart; all numbers are counted as of 32 bits.
    """
    found = collections.defaultdict(list)
    operations = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    for result, name in re.findall(rf" = (.*?) ({operations})(?:-start)?\(", traced.lower().compile().as_text()):
        shapes = re.findall(r"[a-z]+\d+\[([\d,]*)\]", result)
        found[name].append(sum(4 * math.prod(int(n) for n in shape.split(",") if n) for shape in shapes))
    return dict(found)


MEASUREMENTS = {
    "forward": forward,
    "score": functools.partial(score, "normal"),
    "score_reduce": functools.partial(score, "reduce"),
    "pipeline": pipeline,
    "records": records,
    "collectives": collectives,
    "step": step,  # the last, as it uses the state up
}


def measure(config: Config, args: argparse.Namespace, asked: Sequence[str]) -> dict:
    """What `asked` names, in order; `compile_s`: seconds of tracing, lowering and compiling of each, and their parts."""
    training, state, parameters = make(config, args)
    answer, meter = {"parameters": parameters, "compile_s": {}}, Meter(args.runs)
    for name in asked:
        answer |= MEASUREMENTS[name](training, state, args, meter)
        answer["compile_s"][name] = meter.compilations()
    return answer

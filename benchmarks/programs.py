"""The measurements of our programs, which are those of a run: `experiments.training` on random images of random classes.

Seconds are medians of --runs calls; a first call, which compiles, is not counted.
"""

import argparse
import functools
import pathlib
import statistics
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator.hlo import Module
from darts_pt_jax import architecture, bilevel
from darts_pt_jax.architecture import Decisions
from darts_pt_jax.bilevel import Batch, SearchState
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.configs import common
from darts_pt_jax.data import batches
from darts_pt_jax.data.images import Images
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config.schema import Config, frozen
from darts_pt_jax.experiments.engine import directory
from darts_pt_jax.experiments.engine.scalars import TensorBoard
from darts_pt_jax.experiments.engine.timing import covered
from darts_pt_jax.experiments.training.steps import Epoch
from darts_pt_jax.experiments.training.supernet import Training
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.record import JsonLines
from darts_pt_jax.selection import scoring, strategies
from darts_pt_jax.spaces import as_lists


def make_config(args: argparse.Namespace, keys: Mapping[str, Any] = types.MappingProxyType({})) -> Config:
    """The config of a run of the given sizes, with further `keys` such as "search.scan"."""
    config = common.get_config()
    config.space = args.space
    config.supernet.cells, config.supernet.channels = args.cells, args.channels
    config.search.batch_size = args.batch
    config.data.mean, config.data.std = (0.5,) * 3, (0.25,) * 3
    config.update_from_flattened_dict(keys)
    return frozen(config)


def random_images(count: int, size: int, classes: int) -> Images:
    """A random data set, padded and flipped like CIFAR-10."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    labels = rng.integers(0, classes, count, np.int32)
    return Images(pixels, labels, pixels[:1], labels[:1], pad=size // 8, flip=True)


def make(config: Config, args: argparse.Namespace) -> tuple[Training, SearchState, int]:
    """A supernet with a fresh state, and its number of parameters before the --decided edges lost their candidates."""
    training = Training(config, random_images(args.images, args.size, args.classes), Devices.here(args.devices))
    state = training.initial_state(jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if args.decided:
        training, state = with_decided(training, state, args.decided)
    return training, jax.block_until_ready(state), parameters


def some_decided(training: Training, count: int | None = None) -> Decisions:
    """The first `count` edges (default: all) of every kind keep one operation; the operations take turns."""
    decisions = architecture.undecided(training.space)
    for kind, graph in training.space.cells.items():
        for e, edge in enumerate(graph.edges[:count]):
            decisions = decisions.choose(kind, e, e % len(edge.candidates))
    return decisions


def with_decided(training: Training, state: SearchState, count: int | None = None) -> tuple[Training, SearchState]:
    """A supernet and its state restricted to the decisions of `some_decided`."""
    decisions = some_decided(training, count)
    part = training.restricted(decisions)
    state = state.replace(decisions=decisions)
    return part, bilevel.restrict(state, training.net, part.net, part.abstract_state())


class Meter:
    """Measures times, and what jax traces, lowers and compiles meanwhile. A process has at most one."""

    PARTS: ClassVar = {
        "trace": "/jax/core/compile/jaxpr_trace_duration",
        "lower": "/jax/core/compile/jaxpr_to_mlir_module_duration",
        "compile": "/jax/core/compile/backend_compile_duration",
    }

    def __init__(self, runs: int):
        """A meter that times `runs` calls."""
        self.runs, self._listening, self._spans = runs, False, []
        jax.monitoring.register_event_time_span_listener(self._listen)

    def _listen(self, event: str, begin: float, end: float, fun_name: str = "", **_):
        if self._listening and event in self.PARTS.values():
            self._spans.append((event, begin, end, fun_name))

    def seconds(self, work: Callable[[], object]) -> float:
        """The median time of a call of `work`, including its computations on the device; NaN without runs."""
        self._listening, seconds = True, []
        for _ in range(1 + self.runs):
            start = time.perf_counter()
            jax.block_until_ready(work())
            seconds.append(time.perf_counter() - start)
        self._listening = False
        return statistics.median(seconds[1:]) if self.runs else float("nan")

    def compilations(self) -> dict:
        """Compilation since the last call of this method: seconds in all, of each part, and of each program.

        Programs are [name, seconds], in the order of their compilation; those under 0.1 seconds are omitted.
        """
        spans, self._spans = self._spans, []
        parts = {part: [s for s in spans if s[0] == event] for part, event in self.PARTS.items()}
        seconds = {name: _seconds(part) for name, part in {"all": spans, **parts}.items()}
        programs = [[name, round(end - begin, 3)] for _, begin, end, name in parts["compile"] if end - begin >= 0.1]
        return {**seconds, "programs": programs}


def _seconds(spans: Sequence[tuple]) -> float:
    return round(covered((begin, end) for _, begin, end, _ in spans), 3)


def forward(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """forward_s: a pass over prepared images, with the statistics of the batch."""
    shape = args.batch, *training.image_shape
    images, labels = jax.random.normal(jax.random.key(1), shape), jnp.arange(args.batch) % args.classes

    @training.devices.jit
    def run(state):
        weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
        return bilevel.forward(training.net, state.variables, weights, images, labels, jax.random.key(2), True)

    return {"forward_s": meter.seconds(lambda: run(state))}


def step(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """bilevel_step_s: a step, including drawing, cropping and flipping of its two batches. Consumes the state."""
    keys = jax.random.split(jax.random.key(1), 3)
    train = training.indices(keys[0], training.train, "independent", 1 + meter.runs)
    valid = training.indices(keys[1], training.valid, "independent", 1 + meter.runs)
    split = training.devices.split
    epoch = Epoch(training.train, split(train), training.valid, split(valid), keys[2], 0.025, 0.0)
    number, current = iter(range(1 + meter.runs)), (state, training.devices.everywhere(Metrics.zero()))

    def run():
        nonlocal current
        current = training.programs.step(next(number), *current, epoch)
        return current

    return {"bilevel_step_s": meter.seconds(run)}


def score(kind: str, training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """score_KIND_s: all removals of the kind's last edge and the unmasked supernet, in one call on one batch."""
    masks = strategies.without_operations(training.space, kind, len(training.space.cells[kind].edges) - 1)
    masks = np.concatenate([np.ones_like(masks[:1]), masks])
    masks = jnp.asarray(scoring.filled_up(masks, training.masks(kind)))
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    indices = training.indices(jax.random.key(1), training.valid, "epoch", 1)[0]
    batch = training.valid, indices, jax.random.key(2)
    scorer = training.scorer(kind)
    return {f"score_{kind}_s": meter.seconds(lambda: scorer(state.variables, weights, masks, batch))}


def pipeline(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """pipeline_s: data for one step: its share of drawing an epoch's indices, and two batches cropped and normalised."""
    make_batch, key, seconds = jax.jit(batches.batch), jax.random.key(1), 0.0
    for half in (training.train, training.valid):
        draw = functools.partial(training.indices, key, half, "independent", training.steps)
        indices = draw()[0]
        seconds += meter.seconds(draw) / training.steps
        seconds += meter.seconds(functools.partial(make_batch, half, indices, key))
    return {"pipeline_s": seconds}


def records(training: Training, state: SearchState, args: argparse.Namespace, meter: Meter) -> dict:
    """records_s: the end of an epoch: its lines of metrics and times, TensorBoard's scalars, a checkpoint."""
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    entry = {"stage": "search", "learning_rate": 0.025, "train_loss": 1.5, "train_accuracy": 50.5, "valid_loss": 1.5,
             "valid_accuracy": 50.5, "edge_weights": as_lists(weights, training.space)}  # fmt: skip
    time_entry = {"stage": "search", "type": "epoch", "number": "1/50", "seconds": 1.5, "images": 50000}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        metrics, timings = JsonLines(folder / "metrics.jsonl"), JsonLines(folder / "timings.jsonl")
        checkpoints, scalars = Checkpoints(folder / "checkpoints", keep=2), TensorBoard(folder / "tensorboard", [])
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
    """collectives: the bytes of each collective's result, by program and operation. Compiles the programs only."""
    indices = training.devices.split(np.arange(args.batch))
    batch = training.train, indices, jax.random.key(1)
    found = {}
    for name in ("params", "alphas"):
        gradient = bilevel.make_gradient(training.net, (name,))

        def batch_gradient(state, dataset, indices, key, gradient=gradient):
            augment_key, noise_key = jax.random.split(key)
            return gradient(state, Batch(*batches.batch(dataset, indices, augment_key), noise_key))

        found[f"gradient of {name}"] = in_program(training.devices.jit(batch_gradient).trace(state, *batch))
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    for kind, graph in training.space.cells.items():
        masks = np.ones((training.masks(kind), len(graph.edges), graph.width), np.float32)
        traced = training.scorer(kind).trace(state.variables, weights, masks, batch)
        found[f"scorer of {kind} edges"] = in_program(traced)
    return {"collectives": found}


def in_program(traced: jax.stages.Traced) -> dict[str, list[int]]:
    """Bytes of the result of each collective operation in the compiled program, by operation."""
    return Module(traced.lower().compile().as_text()).collectives()


MEASUREMENTS = {
    "forward": forward,
    "score": functools.partial(score, "normal"),
    "score_reduce": functools.partial(score, "reduce"),
    "pipeline": pipeline,
    "records": records,
    "collectives": collectives,
    "step": step,  # last, because it consumes the state
}


def measure(config: Config, args: argparse.Namespace, asked: Sequence[str]) -> dict:
    """Takes the `asked` measurements in order; `compile_s` holds the compilation of each (`Meter.compilations`)."""
    training, state, parameters = make(config, args)
    answer, meter = {"parameters": parameters, "compile_s": {}}, Meter(args.runs)
    for name in asked:
        answer |= MEASUREMENTS[name](training, state, args, meter)
        answer["compile_s"][name] = meter.compilations()
    return answer

"""The programs of a run for devices that are not there: traced with shapes in place of arrays.

They are those of `experiments.training`, called as a run calls them; a call returns the shapes of the results.
"""

import argparse
import functools
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from benchmarks.programs import make_config, random_images, some_decided
from darts_pt_jax import architecture
from darts_pt_jax.configs.common import RETRAIN_NASBENCH201
from darts_pt_jax.devices import Devices, Program
from darts_pt_jax.experiments.training.network import Retraining
from darts_pt_jax.experiments.training.steps import Epoch
from darts_pt_jax.experiments.training.supernet import Training
from darts_pt_jax.loops import Loop
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.spaces import SPACES

STEP = ("batch", "alpha gradient", "alpha update", "weight gradient", "weight update")
"""The programs of a bilevel step, in the order in which it calls them first."""


def names(space: str) -> list[str]:
    """The programs of a run."""
    return [*STEP, *(f"scorer of {kind} edges" for kind in SPACES[space].cells), "validation", "retraining step"]


class Described(Program):
    """A program that a call traces, and never runs.

    Attributes:
      traced: the result of the last trace.
      seconds: the time of tracing.
    """

    def __init__(self, program: Program, called: list["Described"]):
        """Takes the program, and the list that its first call enters it in."""
        vars(self).update(vars(program))
        self._called, self.seconds = called, 0.0

    def __call__(self, *args) -> Any:
        """The shapes of the results."""
        if self not in self._called:
            self._called.append(self)
        return self.trace(*args).out_info

    def trace(self, *args) -> Any:
        """The shapes of the results, in an object that compiles nothing: a step compiles its programs ahead."""
        start = time.perf_counter()
        self.traced = super().trace(*args)
        self.seconds += time.perf_counter() - start
        nothing = SimpleNamespace(compile=lambda: None)
        return SimpleNamespace(out_info=self.traced.out_info, lower=lambda: nothing)


class Absent(Devices):
    """Devices that are not there: they hold shapes, and `called` lists the programs that have been called."""

    def __init__(self, devices, masks: int | None = None):
        """Arguments as for `Devices`."""
        super().__init__(devices, masks)
        self.called: list[Described] = []

    def put(self, tree, sharding):
        """The shapes of a tree of arrays, placed as the sharding says."""

        def shape(x):
            if isinstance(x, jax.core.Tracer):  # while jax evaluates shapes
                return x
            like = x if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(x)
            return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding)

        return jax.tree.map(shape, tree)

    def jit(self, function, out=None, place=None, **options) -> Program:
        """A program that a call only traces."""
        return Described(super().jit(function, out, place, **options), self.called)


class _Once(Loop):
    """A loop that ends after its first step; its sums are those of one image."""

    def __iter__(self) -> Iterator[int]:
        yield 0
        self.total = Metrics.zero().replace(images=np.ones((), np.int32))


def traced(args: argparse.Namespace, devices: Absent) -> Described:
    """The program `args.program` of a run, traced.

    `args` gives its sizes as `benchmarks.ours` does; `precision`; `restricted`: half of the edges of each kind have lost
    all candidates but one; `retrain_*`: sizes of the retrained network.
    """
    name, key = args.program, jax.random.key(0)
    config = make_config(args, {"precision": args.precision, "search.scan": "off", **_retrain_keys(args)})
    images = random_images(args.images, args.size, args.classes)
    training = Training(config, images, devices)
    if name == "retraining step":
        return _retraining_step(config, images, devices, training)
    if args.restricted:
        fewest = min(len(graph.edges) for graph in training.space.cells.values())
        training = training.restricted(some_decided(training, fewest // 2))
    state = training.abstract_state()
    if name in STEP:
        indices = devices.split(np.zeros((1, args.batch), np.int32))
        epoch = Epoch(training.train, indices, training.valid, indices, key, 0.025, 0.0)
        training.programs.step(0, state, devices.everywhere(Metrics.zero()), epoch)
        return dict(zip(STEP, devices.called, strict=True))[name]
    if name == "validation":
        training.validate(state, key, _Once)
        return devices.called[0]
    kind = name.split()[2]
    graph, batch = training.space.cells[kind], np.zeros(args.batch, np.int32)
    weights = jax.eval_shape(
        functools.partial(architecture.edge_weights, training.space), state.alphas, state.decisions
    )
    masks = np.ones((training.masks(kind), len(graph.edges), graph.width), np.float32)
    scorer = training.scorer(kind)
    scorer(state.variables, weights, masks, (training.valid, batch, key))
    return scorer


def _retrain_keys(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of retraining at the given sizes: the benchmark's own for NAS-Bench-201, else the defaults."""
    keys = dict(RETRAIN_NASBENCH201) if args.space == "nasbench201" else {}
    keys |= {"retrain.cutout": args.size // 2, "retrain.auxiliary": 0.4 * (args.size >= 32)} if not keys else {}
    sizes = {"cells": args.retrain_cells, "channels": args.retrain_channels, "batch_size": args.retrain_batch}
    return keys | {f"retrain.{name}": size for name, size in sizes.items() if size}


def _retraining_step(config, images, devices: Absent, training: Training) -> Described:
    """A step of an architecture in which the candidates take turns, and every node keeps its first inputs."""
    decisions = some_decided(training)
    for kind, graph in training.space.cells.items():
        for node in graph.node_states:
            edges = graph.incoming(node)
            decisions = decisions.remove(kind, edges[training.space.inputs_per_node or len(edges) :])
    retraining = Retraining(config, images, decisions.genotype(training.space), devices)
    retraining.epoch(retraining.abstract_state(), jax.random.key(0), 0.025, 0.1, _Once)
    return devices.called[-1]

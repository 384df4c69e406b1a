"""Predicts how long a run takes: seconds of each compiled program, measured here, times the calls that its config makes.

    python -m benchmarks.cost --config configs/s4_c10_small.py [--run RUN_DIR] -- [--config.KEY=VALUE ...]

It measures with the run's data, once before any decision and once with all edges decided and their other candidates
dropped. In between, it assumes that a selection with `select.restrict_every` gets cheaper in proportion to the number of
restricted edges. Compilation is not included. --run adds the seconds that a real run of the config took (its timings.jsonl,
without compilation). Checkpoints are only predicted, because timings.jsonl does not contain them.
"""

import argparse
import collections
import functools
import itertools
import math
import pathlib
import tempfile
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks import measure
from benchmarks.measure import Table
from benchmarks.programs import Meter, with_decided
from darts_pt_jax import architecture, record
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.data.images import DataError
from darts_pt_jax.experiments.config import settings
from darts_pt_jax.experiments.engine import execute, large_pages, machine
from darts_pt_jax.experiments.engine.units import Unit
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.stages import search, select
from darts_pt_jax.experiments.training.steps import Epoch
from darts_pt_jax.experiments.training.supernet import Training
from darts_pt_jax.loops import Loop
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.selection.schedule import MEASURED
from darts_pt_jax.selection.strategies import STRATEGIES, TOPOLOGIES

PHASES = {"epoch": "search", "tuning epoch": "tuning", "decision": "scoring"}
"""The phase of each type of unit."""


def programs(training: Training, state: SearchState, meter: Meter) -> dict[str, float]:
    """Seconds of a call of the bilevel step, of validation, and of each kind's scorer. Consumes the state."""
    key = jax.random.key(0)
    train, valid = (training.indices(key, data, "epoch", 2) for data in (training.train, training.valid))
    weights = architecture.edge_weights(training.space, state.alphas, state.decisions)
    seconds = {"validation": meter.seconds(lambda: training.validate(state, key, _one_step))}
    for kind, graph in training.space.cells.items():
        masks = np.ones((training.masks(kind), len(graph.edges), graph.width), np.float32)
        batch = training.valid, valid[0], key
        seconds[kind] = meter.seconds(functools.partial(training.scorer(kind), state.variables, weights, masks, batch))
    epoch = Epoch(training.train, train, training.valid, valid, key, 0.025, 0.0)
    current = state, training.devices.everywhere(Metrics.zero())

    def step():
        nonlocal current
        current = training.programs.step(0, *current, epoch)
        return current

    return seconds | {"step": meter.seconds(step)}


def _one_step(name, state, total, steps, images=0) -> Loop:
    """A loop that ends after its first step."""
    return Loop(name, state, total, 1, images)


def checkpoint(state: SearchState, meter: Meter) -> float:
    """Seconds to save a state."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, numbers = Checkpoints(pathlib.Path(folder) / "checkpoints", keep=1), itertools.count()
        return meter.seconds(lambda: checkpoints.save(next(numbers), state, {}))


Calls = dict[str, collections.Counter]
"""By phase, how often it calls each (program, share of restricted edges)."""


def calls(config, training: Training, units: Sequence[Unit]) -> Calls:
    """The calls that the units of a run make."""
    numbers, done, decided, restricted = collections.defaultdict(collections.Counter), collections.Counter(), 0, 0.0
    edges = sum(len(graph.edges) for graph in training.space.cells.values())
    batches = (config.select.images or training.valid.size) // config.search.batch_size
    validation = (config.eval.images or training.valid.size) // config.search.batch_size
    counts = collections.Counter(unit.type for unit in units)
    counts["tuning epoch"] //= config.select.orders
    for unit in units:
        done[unit.type] += 1
        if unit.type == "begin":
            done["tuning epoch"], decided, restricted = 0, 0, 0.0
        elif unit.type == "restriction":
            restricted = decided / edges
        elif unit.type == "decision":
            target = unit.do.keywords["target"]
            decided += target.type == "operation"
            if METHODS[config.select.method].scores:
                numbers["scoring"][target.kind, restricted] += batches * scorings(config, training, target)
        elif phase := PHASES.get(unit.type):
            numbers[phase]["step", restricted] += training.steps
            if done[unit.type] == counts[unit.type] or done[unit.type] % config.eval.every == 0:
                numbers[phase]["validation", restricted] += validation
    return numbers


def scorings(config, training: Training, target) -> int:
    """Calls of the scorer for one batch of a decision, over all its passes; each pass scores the unmasked supernet too."""
    graph, size = training.space.cells[target.kind], training.masks(target.kind)
    if target.type == "operation":
        masks = [len(graph.edges[target.number].candidates)]
    else:
        masks = range(len(graph.incoming(target.number)), training.space.inputs_per_node, -1)
        masks = masks if TOPOLOGIES[config.select.topology].rescores else masks[:1]
    return sum(math.ceil((n + 1) / size) for n in masks)


def taken(directory: pathlib.Path) -> dict[str, float]:
    """Seconds of each phase of a run, without compilation.

    Raises:
      measure.Failure: the directory has no times of a run.
    """
    seconds = collections.Counter()
    for line in record.JsonLines(directory / "timings.jsonl").read():
        if phase := PHASES.get(line["type"]):
            seconds[phase] += line["seconds"] - line["compile_seconds"]
    if not seconds:
        raise measure.Failure(f"--run {directory} has no timings.jsonl with units of work: name a run directory")
    return seconds


def parse() -> argparse.Namespace:
    """The command line."""
    parser = measure.parser(__doc__, sizes=False)
    parser.add_argument("--config", required=True, help="the run's config file")
    parser.add_argument("--run", type=pathlib.Path, metavar="RUN_DIR", help="a run of this config, to compare with")
    parser.add_argument("--runs", type=int, default=3, help="timed calls of each program (default: 3)")
    parser.add_argument("overrides", nargs="*", metavar="--config.KEY=VALUE", help="settings of the run, after --")
    return parser.parse_args()


def prepared(args: argparse.Namespace) -> Training:
    """The supernet of the run, with its data.

    Raises:
      measure.Failure: config or data are wrong, or the calls of the selection are not known or not measured.
    """
    try:
        config = settings.parse(["cost", f"--config={args.config}", *args.overrides]).config
        if METHODS[config.select.method].values or STRATEGIES[config.select.strategy].masks is None:
            raise measure.Failure(
                "the cost of a selection without masks is not measured: leave out its method or strategy"
            )
        if config.select.race or config.select.order in MEASURED:
            raise measure.Failure(
                "how much a selection scores follows from the scores if select.race is above 0 or select.order is "
                f"{' or '.join(MEASURED)}: leave these out"
            )
        machine.prepare(config)
        return Training(config, execute.load_images(config))
    except (ConfigError, DataError) as error:
        raise measure.Failure(str(error)) from error


@measure.command
def main():
    """Prints the table."""
    args = parse()
    real, training = taken(args.run) if args.run else {}, prepared(args)
    config, meter = training.config, Meter(args.runs)
    table = Table(args.json, ("phase", "calls", "predicted", "taken", "predicted / taken"))
    state = training.initial_state(jax.random.key(0))
    units = [*search.units(config), *select.units(config)]
    numbers = calls(config, training, units)
    ends = [{"checkpoint": checkpoint(state, meter)}]
    if any(share for counts in numbers.values() for _, share in counts):
        ends.append(programs(*with_decided(training, training.initial_state(jax.random.key(0))), meter))
    ends[0] |= programs(training, state, meter)

    def seconds(name, share):
        return ends[0][name] + share * (ends[-1][name] - ends[0][name])

    predicted = {}
    for phase, counts in numbers.items():
        predicted[phase] = sum(count * seconds(*call) for call, count in counts.items())
        by_program = collections.Counter()
        for (name, _), count in counts.items():
            by_program[name] += count
        words = ", ".join(f"{count:,} {name} of {ends[0][name]:.3f} s" for name, count in by_program.items())
        add(table, phase, words, predicted[phase], real.get(phase))
    total = sum(real[phase] for phase in predicted) if real else None
    add(table, "all of these", "", sum(predicted.values()), total)
    words = f"{len(units):,} of {ends[0]['checkpoint']:.3f} s"
    add(table, "checkpoints", words, len(units) * ends[0]["checkpoint"], None)


def add(table: Table, phase: str, words: str, predicted: float, real: float | None):
    """Adds a row."""
    cells = ["-", "-"] if real is None else [f"{real:.0f} s", f"{predicted / real:.2f}"]
    value = {"phase": phase, "calls": words, "predicted_s": predicted, "taken_s": real}
    table.add_line([phase, words, f"{predicted:.0f} s", *cells], value)


if __name__ == "__main__":
    large_pages.use_large_pages()
    main()

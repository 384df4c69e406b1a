"""What a run will take: seconds per call of each compiled program, measured here, times the calls that its config asks for.

    python -m benchmarks.cost --config=configs/s4_c10_small.py [--config.KEY=VALUE ...] [--run RUN_DIR] [--json FILE]

Measures on the run's own data: three calls of each program after one that compiles. With `--run` the seconds that a real
run of that config took (its timings.jsonl) stand beside. The programs are those of the whole supernet: a selection with
`select.restrict_every` takes less.
"""

import collections
import json
import math
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import numpy as np

from darts_pt_jax import architecture, record
from darts_pt_jax.bilevel import Metrics
from darts_pt_jax.checkpoints import Checkpoints
from experiments import large_pages, machine, run, search, select, settings
from experiments.training import Training

PHASES = ("search", "tuning", "scoring", "checkpoints")


def median_seconds(call, repetitions: int = 3) -> float:
    """Median seconds of `call()` after a first one, which compiles."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(training: Training) -> dict[str, float]:
    """Seconds of one call of the bilevel step, of validation, of each kind's scorer, and of a checkpoint."""
    key = jax.random.key(0)
    state = training.initial_state(key)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, numbers = Checkpoints(pathlib.Path(folder) / "checkpoints", keep=1), iter(range(100))
        seconds = {"checkpoint": median_seconds(lambda: checkpoints.save(next(numbers), state, {}))}
    train, valid = (training.indices(key, data, "epoch", 2) for data in (training.train, training.valid))
    batch, weights = (
        (training.valid, valid[0], key),
        architecture.edge_weights(training.space, state.alphas, state.decisions),
    )
    seconds["validation"] = median_seconds(lambda: training.validate(state, key, one_step)["valid_loss"])
    for kind, graph in training.space.cells.items():
        masks = np.ones((training.masks(kind), len(graph.edges), graph.width), np.float32)
        seconds[kind] = median_seconds(lambda k=kind, m=masks: training.scorer(k)(state.variables, weights, m, batch))

    def step():
        nonlocal state
        state, total = training.step(0, state, Metrics.zero(), training.train, train, training.valid, valid, key, 0.025)
        return total

    seconds["step"] = median_seconds(step)
    return seconds


def one_step(name, step, state, total, steps, images):
    """Stands for `Run.fold`: the first step only."""
    return step(0, state, total)


def calls(config, training: Training) -> dict[str, collections.Counter]:
    """How often each phase calls each program."""
    units = [*search.units(config), *select.units(config)]
    numbers = collections.defaultdict(collections.Counter)
    for phase, type_ in (("search", "epoch"), ("tuning", "tuning epoch")):
        epochs = sum(unit.type == type_ for unit in units)
        validations = math.ceil(epochs / config.eval.every)
        batches = (config.eval.images or training.valid.size) // config.search.batch_size
        numbers[phase].update(step=epochs * training.steps, validation=validations * batches)
    batches = (config.select.images or training.valid.size) // config.search.batch_size
    for unit in units:
        if unit.type == "decision":
            target = unit.do.keywords["target"]
            numbers["scoring"][target.kind] += batches * scorings(config, training, target)
    numbers["checkpoints"]["checkpoint"] = len(units)
    return numbers


def scorings(config, training: Training, target) -> int:
    """Calls of the scorer for one batch of a decision: those of all its passes, each with the unmasked supernet first."""
    graph, size = training.space.cells[target.kind], training.masks(target.kind)
    if target.type == "operation":
        masks = [len(graph.edges[target.number].candidates)]
    else:
        masks = range(len(graph.incoming(target.number)), training.space.inputs_per_node, -1)
        masks = masks if config.select.topology == "leave_one_out" else masks[:1]
    return sum(math.ceil((n + 1) / size) for n in masks)


def taken(directory: pathlib.Path) -> dict[str, float]:
    """Seconds of each phase of a run, less those of compiling."""
    phase_of = {"epoch": "search", "tuning epoch": "tuning", "decision": "scoring"}
    seconds = collections.Counter()
    for line in record.JsonLines(directory / "timings.jsonl").read():
        if phase := phase_of.get(line["type"]):
            seconds[phase] += line["seconds"] - line["compile_seconds"]
    return seconds


def main(argv: list[str]) -> int:
    """Prints the table; returns the exit code."""
    own = {"run": "", "json": ""}
    rest = []
    for argument in argv:
        name, _, value = argument.lstrip("-").partition("=")
        if name in own:
            own[name] = value
        else:
            rest.append(argument)
    asked = settings.parse(rest)
    machine.prepare(asked.config)
    training = Training(asked.config, run.load_images(asked.config))
    seconds, numbers = measure(training), calls(asked.config, training)
    real = taken(pathlib.Path(own["run"])) if own["run"] else {}
    rows = []
    print("| phase | calls | predicted s | taken s | predicted / taken |\n|---|---|---|---|---|")
    for phase in PHASES:
        predicted = sum(seconds[program] * count for program, count in numbers[phase].items())
        each = ", ".join(
            f"{count:,} {program} of {seconds[program]:.3f} s" for program, count in numbers[phase].items()
        )
        rows.append({"phase": phase, "predicted_s": predicted, "taken_s": real.get(phase)})
        ratio = f"{real[phase]:.0f} | {predicted / real[phase]:.2f}" if phase in real else "- | -"
        print(f"| {phase} | {each} | {predicted:.0f} | {ratio} |")
    predicted, total = sum(row["predicted_s"] for row in rows), sum(real.values())
    print(f"| all | | {predicted:.0f} | " + (f"{total:.0f} | {predicted / total:.2f} |" if real else "- | - |"))
    if own["json"]:
        pathlib.Path(own["json"]).write_text(json.dumps({"seconds_per_call": seconds, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    large_pages.use_large_pages()
    sys.exit(main(sys.argv))

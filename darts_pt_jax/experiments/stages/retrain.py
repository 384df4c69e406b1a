"""The stage `retrain`: trains the chosen architecture from scratch on the whole training set, and tests it every epoch."""

import functools
import json

import jax

from darts_pt_jax import supervised
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.engine.run import Run
from darts_pt_jax.experiments.engine.units import State, Unit
from darts_pt_jax.experiments.reporting import cautions
from darts_pt_jax.supervised import RetrainState


def units(config: Config) -> list[Unit]:
    """One unit for each epoch, and one for the result."""
    epochs = config.retrain.epochs
    training = [
        Unit("retrain", "epoch", f"{e + 1}/{epochs}", functools.partial(epoch, number=e), "retrain.batch_size")
        for e in range(epochs)
    ]
    return [*training, Unit("retrain", "result", "", write_result, brief=True)]


def _begin(run: Run, state: State) -> RetrainState:
    """Writes the architecture if the config names it; returns fresh weights, unless a first epoch was interrupted."""
    genotype = run.retraining.genotype
    if run.config.genotype:
        run.write("genotype.json", genotype.to_json() + "\n")
        run.write("genotype.txt", genotype.text(genotype.notation) + "\n")
    for caution in cautions.of_architecture(genotype):
        run.warn(caution)
    run.say({"parameters": run.retraining.parameters, "multiply_adds": run.retraining.multiply_adds})
    return state if isinstance(state, RetrainState) else run.retraining.initial_state(run.key("retrain", "init"))


def epoch(run: Run, state: State, number: int) -> RetrainState:
    """Trains epoch `number` (from 0), tests, records, and writes the network. The test result chooses nothing."""
    state = state if number else _begin(run, state)
    config, last = run.config.retrain, number + 1 == run.config.retrain.epochs
    learning_rate = config.learning_rate * supervised.SCHEDULES[config.schedule](number, config.epochs)
    drop_path = config.drop_path * number / config.epochs
    key = jax.random.fold_in(run.key("retrain", "train"), number)
    state, metrics = run.retraining.epoch(state, key, learning_rate, drop_path, run.loop)
    if last or (number + 1) % config.test_every == 0:
        metrics |= run.retraining.test(state, run.key("retrain", "test"), run.loop)
    run.record_metrics(stage="retrain", epoch=number + 1, learning_rate=learning_rate, drop_path=drop_path, **metrics)
    run.retraining.trained(state, number + 1).save(run.directory)
    run.say(metrics)
    return state


def write_result(run: Run, state: RetrainState) -> RetrainState:
    """Writes retrained.json: the test accuracy after the last epoch, and the best one, which the test set has chosen."""
    tested = [m for m in run.metrics.read() if m["stage"] == "retrain" and "test_accuracy" in m]
    best = max(tested, key=lambda m: m["test_accuracy"])
    result = {
        "epochs": tested[-1]["epoch"],
        "test_accuracy": tested[-1]["test_accuracy"],
        "best_test_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        "parameters": run.retraining.parameters,
        "multiply_adds": run.retraining.multiply_adds,
    }
    run.write("retrained.json", json.dumps(result, indent=1) + "\n")
    return state

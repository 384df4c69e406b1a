"""The stage `retrain`: the chosen architecture, trained from scratch on the whole training set and tested, epoch by epoch."""

import functools
import json

import jax

from darts_pt_jax import supervised
from darts_pt_jax.supervised import RetrainState
from experiments.config.schema import Config
from experiments.engine.run import Run
from experiments.engine.units import State, Unit


def units(config: Config) -> list[Unit]:
    """An epoch each, and an end."""
    epochs = config.retrain.epochs
    of = [
        Unit("retrain", "epoch", f"{e + 1}/{epochs}", functools.partial(epoch, number=e), "retrain.batch_size")
        for e in range(epochs)
    ]
    return [*of, Unit("retrain", "result", "", write_result)]


def _begin(run: Run, state: State) -> RetrainState:
    """Writes the architecture, if the config names it; fresh weights, unless an interrupted first epoch goes on."""
    genotype = run.retraining.genotype
    if run.config.genotype:
        run.write("genotype.json", genotype.to_json() + "\n")
        run.write("genotype.txt", genotype.text(genotype.notation) + "\n")
    run.say({"parameters": run.retraining.parameters, "multiply_adds": run.retraining.multiply_adds})
    return state if isinstance(state, RetrainState) else run.retraining.initial_state(run.key("retrain", "init"))


def epoch(run: Run, state: State, number: int) -> RetrainState:
    """Trains epoch `number` (from 0), tests, records, and writes the network. Nothing is chosen by what the test says."""
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
    """Writes retrained.json: test accuracy after the last epoch, and the best, which the test set chose."""
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

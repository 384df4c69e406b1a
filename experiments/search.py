"""The stage `search`: bilevel training of the supernet, one unit of work per epoch."""

import functools

import jax
import numpy as np
import optax

from darts_pt_jax import architecture
from darts_pt_jax.bilevel import SearchState
from experiments.run import Run, Unit


def units(config) -> list[Unit]:
    """One unit for each epoch."""
    epochs = config.search.epochs
    return [Unit("search", "epoch", f"{e + 1}/{epochs}", functools.partial(epoch, number=e)) for e in range(epochs)]


def epoch(run: Run, state: SearchState, number: int) -> SearchState:
    """Trains epoch `number` (from 0), validates and records."""
    search, training = run.config.search, run.training
    schedule = optax.cosine_decay_schedule(
        search.learning_rate, search.epochs, search.learning_rate_min / search.learning_rate
    )
    learning_rate = float(schedule(number))
    key = jax.random.fold_in(run.key("search"), number)
    state, metrics = training.epoch(state, key, learning_rate, search.sampling)
    last = number + 1 == search.epochs
    if last or (number + 1) % run.config.eval.every == 0:
        metrics |= training.validate(state, run.key("valid"))
    run.metrics.append(
        stage="search", epoch=number + 1, learning_rate=learning_rate, **metrics, edge_weights=mixture(run, state)
    )
    if last or number + 1 in run.config.checkpoint.snapshots:
        run.snapshot(number + 1, state)
    run.say(metrics)
    return state


def mixture(run: Run, state: SearchState) -> dict:
    """The edge weights, as plain lists by cell kind."""
    weights = architecture.edge_weights(run.training.space, state.alphas, state.decisions)
    return architecture.as_lists({kind: np.asarray(w) for kind, w in weights.items()}, run.training.space)

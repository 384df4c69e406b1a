"""The stage `search`: bilevel training of the supernet, one unit of work per epoch."""

import functools

import jax
import optax

from darts_pt_jax import architecture
from darts_pt_jax.bilevel import SearchState
from experiments.run import Run, Unit


def units(config) -> list[Unit]:
    """One unit for each epoch; none if the supernet comes from another run."""
    if config.init_from:
        return []
    epochs = config.search.epochs
    return [Unit("search", "epoch", f"{e + 1}/{epochs}", functools.partial(epoch, number=e)) for e in range(epochs)]


def epoch(run: Run, state: SearchState, number: int) -> SearchState:
    """Trains epoch `number` (from 0), validates and records."""
    search = run.config.search
    schedule = optax.cosine_decay_schedule(
        search.learning_rate, search.epochs, search.learning_rate_min / search.learning_rate
    )
    learning_rate = float(schedule(number))
    key = jax.random.fold_in(run.key("search", "search"), number)
    last = number + 1 == search.epochs
    state, metrics = run.epoch(state, key, learning_rate, search.sampling, number, last)
    run.record_metrics(
        stage="search", epoch=number + 1, learning_rate=learning_rate, **metrics, edge_weights=mixture(run, state)
    )
    if last or number + 1 in run.config.checkpoint.snapshots:
        run.snapshot(number + 1, state)
    run.say(metrics)
    return state


def mixture(run: Run, state: SearchState) -> dict:
    """The edge weights, as plain lists by cell kind."""
    weights = architecture.edge_weights(run.training.space, state.alphas, state.decisions)
    return architecture.as_lists(weights, run.training.space)

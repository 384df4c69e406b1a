"""The stage `search`: bilevel training of the supernet, one unit of work for each epoch."""

import functools
from collections.abc import Mapping

import jax
import numpy as np
import optax

from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.engine.run import Run
from darts_pt_jax.experiments.engine.units import Unit
from darts_pt_jax.experiments.training.supernet import Regime
from darts_pt_jax.spaces import as_lists


def units(config: Config) -> list[Unit]:
    """One unit for each epoch; none if the supernet comes from another run."""
    if config.init_from:
        return []
    epochs = config.search.epochs
    return [Unit("search", "epoch", f"{e + 1}/{epochs}", functools.partial(epoch, number=e)) for e in range(epochs)]


def regime(config: Config, number: int) -> Regime:
    """The settings of epoch `number` (from 0): the cosine learning rate (DARTS, section 3.1), and the progress."""
    search = config.search
    epochs = search.schedule_epochs or search.epochs
    cosine = optax.cosine_decay_schedule(search.learning_rate, epochs, search.learning_rate_min / search.learning_rate)
    return Regime(
        float(cosine(number)), search.sampling, search.batch_size, number / epochs, number >= search.alpha_start
    )


def epoch(run: Run, state: SearchState, number: int) -> SearchState:
    """Trains epoch `number` (from 0), validates and records; does nothing once the search has been stopped."""
    config, epochs = run.config, run.config.search.epochs
    lines = [m for m in run.metrics.read() if m["stage"] == "search"]
    if lines and "returned_to" in lines[-1]:
        return state
    key, settings = jax.random.fold_in(run.key("search", "search"), number), regime(config, number)
    last = number + 1 == epochs
    measures = config.curvature.every and (number + 1) % config.curvature.every == 0
    may_return = bool(measures and config.curvature.stop)
    state, metrics = run.epoch(state, key, settings, number, last or may_return)
    returned_to = None
    if measures:
        metrics["curvature"] = run.training.curvature(state, run.key("search", "curvature"), config.curvature.images)
        values = {m["epoch"]: m["curvature"] for m in lines if "curvature" in m} | {number + 1: metrics["curvature"]}
        returned_to = stopping_epoch(values, config.curvature.window, config.curvature.stop)
    ending = {} if returned_to is None else {"returned_to": returned_to}
    run.record_metrics(
        stage="search", epoch=number + 1, learning_rate=settings.learning_rate, **metrics, **ending,
        edge_weights=mixtures(run, state),
    )  # fmt: skip
    if not last and (may_return or number + 1 in config.checkpoint.snapshots):
        run.snapshot(number + 1, state)
    if returned_to is not None:
        state = run.snapshots.restore(returned_to, run.training.abstract_state())
    if last or returned_to is not None:
        run.snapshot(epochs, state)
    run.say(metrics | ending)
    return state


def mixtures(run: Run, state: SearchState) -> dict:
    """The sampler's mean edge weights as plain lists by cell kind; decided edges keep their last values."""
    space = run.training.space
    return as_lists(run.training.sampler.undecided(space, state.alphas), space)


def stopping_epoch(curvatures: Mapping[int, float | None], window: int, ratio: float) -> int | None:
    """The epoch to which the search returns if the curvature has grown too fast (RobustDARTS, section 4.3), else None.

    Args:
      curvatures: dominant eigenvalues by epoch; None values do not count.
      window: compares the mean of the last `window` values with the mean of as many before them.
      ratio: stops if the earlier mean is less than this share of the later one; 0 never stops.

    Returns:
      The last epoch of the earlier window.
    """
    epochs = sorted(epoch for epoch, value in curvatures.items() if value is not None)[-2 * window :]
    if len(epochs) < 2 * window:
        return None
    earlier, later = (np.mean([curvatures[e] for e in part]) for part in (epochs[:window], epochs[window:]))
    return epochs[window - 1] if 0 < earlier < ratio * later else None

"""The stage `search`: bilevel training of the supernet, one unit of work per epoch."""

import functools
from collections.abc import Mapping

import jax
import numpy as np
import optax

from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.spaces import as_lists
from experiments.config.schema import Config
from experiments.engine.run import Run
from experiments.engine.units import Unit
from experiments.training.supernet import Regime


def units(config: Config) -> list[Unit]:
    """One unit for each epoch; none if the supernet comes from another run."""
    if config.init_from:
        return []
    epochs = config.search.epochs
    return [Unit("search", "epoch", f"{e + 1}/{epochs}", functools.partial(epoch, number=e)) for e in range(epochs)]


def regime(config: Config, number: int) -> Regime:
    """What epoch `number` (from 0) is trained under: the weights' cosine (DARTS, section 3.1), and how far it has come."""
    search = config.search
    epochs = search.schedule_epochs or search.epochs
    cosine = optax.cosine_decay_schedule(search.learning_rate, epochs, search.learning_rate_min / search.learning_rate)
    return Regime(float(cosine(number)), search.sampling, search.batch_size, number / epochs)


def epoch(run: Run, state: SearchState, number: int) -> SearchState:
    """Trains epoch `number` (from 0), validates and records; does nothing once the search has been stopped."""
    config, epochs = run.config, run.config.search.epochs
    lines = [m for m in run.metrics.read() if m["stage"] == "search"]
    if lines and "returned_to" in lines[-1]:
        return state
    now, last = regime(config, number), number + 1 == epochs
    key = jax.random.fold_in(run.key("search", "search"), number)
    looks = config.curvature.every and (number + 1) % config.curvature.every == 0
    may_return = bool(looks and config.curvature.stop)
    state, metrics = run.epoch(state, key, now, number, last or may_return)
    back = None
    if looks:
        metrics["curvature"] = run.training.curvature(state, run.key("search", "curvature"), config.curvature.images)
        values = {m["epoch"]: m["curvature"] for m in lines if "curvature" in m} | {number + 1: metrics["curvature"]}
        back = stopping_epoch(values, config.curvature.window, config.curvature.stop)
    ending = {} if back is None else {"returned_to": back}
    run.record_metrics(
        stage="search", epoch=number + 1, learning_rate=now.learning_rate, **metrics, **ending,
        edge_weights=mixtures(run, state),
    )  # fmt: skip
    if not last and (may_return or number + 1 in config.checkpoint.snapshots):
        run.snapshot(number + 1, state)
    if back is not None:
        state = run.snapshots.restore(back, run.training.abstract_state())
    if last or back is not None:
        run.snapshot(epochs, state)
    run.say(metrics | ending)
    return state


def mixtures(run: Run, state: SearchState) -> dict:
    """The sampler's mean edge weights as plain lists by cell kind; decided edges keep their last values."""
    space = run.training.space
    return as_lists(run.training.sampler.mean(space, state.alphas), space)


def stopping_epoch(curvatures: Mapping[int, float | None], window: int, ratio: float) -> int | None:
    """The epoch to go back to if the curvature has grown too fast (RobustDARTS, section 4.3), else None.

    Args:
      curvatures: dominant eigenvalues by epoch; those that are None do not count.
      window: the last so many are averaged, and as many before them.
      ratio: stops where the earlier mean is less than this share of the later; 0 never does.

    Returns:
      The last epoch of the earlier ones.
    """
    epochs = sorted(epoch for epoch, value in curvatures.items() if value is not None)[-2 * window :]
    if len(epochs) < 2 * window:
        return None
    earlier, later = (np.mean([curvatures[e] for e in part]) for part in (epochs[:window], epochs[window:]))
    return epochs[window - 1] if 0 < earlier < ratio * later else None

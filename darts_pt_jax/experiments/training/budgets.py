"""The limits of a config on the discrete network."""

from darts_pt_jax import network
from darts_pt_jax.experiments.config.schema import LIMITS, Config, limits
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.training.network import discrete_network
from darts_pt_jax.genotype import example
from darts_pt_jax.selection.budgets import Budget, nothing_decided
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.spaces import SPACES

LIMITED = {"retrain.form", "retrain.cells", "retrain.channels"}
"""The keys that describe the limited network."""


def budget_of(config: Config, image_shape: tuple[int, ...], classes: int) -> Budget | None:
    """The limits of a config, for images [H, W, C]; None if it has none, or names an architecture.

    Raises:
      ConfigError: no architecture of the space is within them, or the space has no discrete network.
    """
    given, space, method = limits(config), SPACES[config.space], METHODS[config.select.method]
    if not given or config.genotype:
        return None
    try:
        costs = network.costs(discrete_network(config, example(space), classes), space, image_shape)
    except ValueError as error:
        raise ConfigError(f"{next(iter(given))} limits the discrete network, but {error}") from error
    limited = [i for i, key in enumerate(LIMITS) if key in given]
    budget = Budget(
        space,
        tuple(given.values()),
        tuple(costs.fixed[limited].tolist()),
        {kind: rows[..., limited] for kind, rows in costs.operations.items()},
        method.barred(space, config.select.none_is_candidate),
        prunes=method.greedy,
    )
    _refuse_impossible(config, budget, given)
    return budget


def _refuse_impossible(config: Config, budget: Budget, given: dict[str, int]):
    points, within = budget.completions(*nothing_decided(budget.space)), ""
    of = f"{config.space} with retrain.cells={config.retrain.cells} and retrain.channels={config.retrain.channels}"
    for cost, (key, limit) in enumerate(given.items()):
        smallest = min(point[cost] for point in points)
        if limit < smallest:
            raise ConfigError(
                f"{key} is {limit}, but the smallest network of {of}{within} has {smallest} {LIMITS[key]}: set it to at "
                "least that"
            )
        points = [point for point in points if point[cost] <= limit]
        within = f", within {key}={limit},"

"""Stand-ins for what other packages are about to offer; each goes when its original arrives.

`flatten`, `seed_of`, `from_flat`, `defaults`, `STAGES`: experiments.config.schema.
`magnitude`: darts_pt_jax.selection.direct. `from_lists`: darts_pt_jax.spaces.
`scores_images`: METHODS[name].scores of darts_pt_jax.selection.methods. `is_convolution`: darts_pt_jax.ops.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from configs import common
from darts_pt_jax.spaces import SearchSpace

STAGES = ("search", "select", "retrain", "report")


def defaults() -> dict:
    """The default of every key, by dotted name."""
    return flatten(common.get_config())


def flatten(config: ConfigDict) -> dict:
    """Values by dotted key, tuples as lists."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": v for inner, v in flatten(value).items()})
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    return flat


def from_flat(values: Mapping) -> ConfigDict:
    """The config with these values; unknown keys are ignored, missing ones have their defaults."""
    config, known = common.get_config(), defaults()
    for key, value in values.items():
        if key in known:
            *section, name = key.split(".")
            place = config[section[0]] if section else config
            place[name] = tuple(value) if isinstance(value, list) else value
    return config


def seed_of(config: ConfigDict, stage: str) -> int:
    """The seed of a stage: its own, or the run's."""
    return config.seed if config[stage].seed == -1 else config[stage].seed


class Choice(NamedTuple):
    """int [E] and bool [E] by cell kind: the chosen candidates and the kept edges."""

    operations: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]


def magnitude(space: SearchSpace, weights: Mapping[str, np.ndarray], rng: np.random.RandomState) -> Choice:
    """The candidate with the largest weight on each edge, the edges with the largest weights at each node."""
    choice = Choice({}, {})
    for kind, graph in space.cells.items():
        allowed = np.where(graph.without(space.magnitude_ignores), weights[kind], -np.inf)
        strength, kept = allowed.max(-1), np.ones(len(graph.edges), bool)
        for node in space.choosable_nodes(kind):
            edges = np.asarray(graph.incoming(node))
            kept[edges[np.argsort(-strength[edges], kind="stable")[space.inputs_per_node :]]] = False
        choice.operations[kind], choice.kept[kind] = allowed.argmax(-1), kept
    return choice


def from_lists(weights: Mapping[str, list[list[float]]], space: SearchSpace) -> dict[str, np.ndarray]:
    """float32 [E, O] by cell kind, 0 where there is no candidate."""
    return {
        kind: np.array([row + [0.0] * (graph.width - len(row)) for row in weights[kind]], np.float32)
        for kind, graph in space.cells.items()
    }


def scores_images(method: str) -> bool:
    """Whether a selection method looks at images."""
    return "perturbation" in method


def is_convolution(operation: str) -> bool:
    """Whether an operation is a convolution."""
    return "conv" in operation

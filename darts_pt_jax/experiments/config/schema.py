"""The config as a value, and what follows from the entries of its keys (keys.py). Imports no jax.

    config = Config().changed({"search.epochs": 3, "space": "s2"})
    config.search.epochs

The core of a run gets a `Config`; command line and config files build it (settings.py).
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence

from ml_collections import ConfigDict

from darts_pt_jax.experiments.config.key import Key, keys_of
from darts_pt_jax.experiments.config.keys import STAGES, Config
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.naming import nearest

__all__ = ["KEYS", "STAGES", "Config", "Key"]

KEYS: dict[str, Key] = keys_of(Config)
"""The entry of every key by dotted name."""


def flatten(config) -> dict:
    """Values of a `Config` or a ConfigDict by dotted name, sorted; tuples as lists, as JSON gives them back."""
    items = vars(config) if dataclasses.is_dataclass(config) else config
    flat = {}
    for name, value in sorted(items.items()):
        if dataclasses.is_dataclass(value) or hasattr(value, "items"):
            flat |= {f"{name}.{inner}": v for inner, v in flatten(value).items()}
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def from_flat(values: Mapping) -> Config:
    """The config of values by dotted name, such as those of run.json.

    A missing key has its default; an unknown one, of another version, is ignored.

    Args:
      values: by name; earlier names of keys are understood.

    Raises:
      ConfigError: a value is of another type than its key's.
    """
    values = renamed(values)
    try:
        return Config().changed({name: value for name, value in values.items() if name in KEYS})
    except TypeError as error:
        raise ConfigError(str(error)) from error


def frozen(config: ConfigDict) -> Config:
    """The config that a config file has made.

    Raises:
      ConfigError: it lacks a key, has an unknown one, or a value is of another type than its key's.
    """
    values = renamed(flatten(config))
    for name in values:
        if name not in KEYS:
            raise ConfigError(f"unknown key {name} in the config file: {meant(name)}")
    if missing := [name for name in KEYS if name not in values]:
        raise ConfigError(f"the config file lacks {', '.join(missing)}: begin with configs/common.py's get_config()")
    return from_flat(values)


def meant(name: str) -> str:
    """Asks which key was meant: by its whole name, by its last part, or by its section; lists all if none is similar."""
    parts = {key: key for key in sorted(KEYS)} | {key.rpartition(".")[-1]: key for key in sorted(KEYS)}
    sections = {key.partition(".")[0]: key.partition(".")[0] for key in sorted(KEYS) if "." in key}
    for names, wanted in ((parts, name), (parts, name.rpartition(".")[-1]), (sections, name.partition(".")[0])):
        if near := nearest(wanted, names):
            return f"did you mean {names[near]}?"
    return f"the keys are {', '.join(sorted(KEYS))}"


def renamed(values: Mapping) -> dict:
    """Values by name, with earlier names and values of keys replaced by those of today."""
    found = dict(values)
    for name, key in KEYS.items():
        if key.former and key.former[0] in found:
            earlier, meanings = key.former
            before = found.pop(earlier)
            found[name] = meanings.get(before, before)
    return found


def value(config: Config, name: str):
    """The value of a key by dotted name."""
    return functools.reduce(getattr, name.split("."), config)


def defaults() -> dict:
    """The default of every key, as `flatten` gives it."""
    return flatten(Config())


def not_default(config: Config) -> dict:
    """The values, as `flatten` gives them, that are not the defaults."""
    usual = defaults()
    return {name: value for name, value in flatten(config).items() if value != usual[name]}


def seed_of(config: Config, stage: str) -> int:
    """The seed of "search", "select" or "retrain": its own, or the run's."""
    own = getattr(config, stage).seed
    return config.seed if own == -1 else own


LIMITS = {"select.max_parameters": "parameters", "select.max_multiply_adds": "multiply-adds for an image"}
"""The keys that limit the discrete network, and what they limit."""


def limits(config: Config) -> dict[str, int]:
    """The keys that set a limit, with their values."""
    return {key: value(config, key) for key in LIMITS if value(config, key)}


def free_keys(not_begun: Collection[str] = ()) -> frozenset[str]:
    """Keys that may change between two commands on one run directory; all of the stages that have not begun."""
    return frozenset(name for name, key in KEYS.items() if key.free or key.stage in not_begun)


def of_supernet() -> frozenset[str]:
    """Keys that a selection shares with the search of the run that it takes its supernet from."""
    return frozenset(name for name, key in KEYS.items() if key.stage == "search" and not key.free)


def compared() -> frozenset[str]:
    """Keys by which runs are of different settings; the others are seeds, or free."""
    return frozenset(name for name, key in KEYS.items() if key.affects != "seed" and not key.free)


def varying(configs: Sequence[Config], keys: Collection[str]) -> list[str]:
    """Those of the keys in which some of the configs differ, sorted."""
    return [key for key in sorted(keys) if len({str(value(config, key)) for config in configs}) > 1]


def deciding() -> frozenset[str]:
    """Keys that decide results, beyond seeds and the last bits."""
    return frozenset(name for name, key in KEYS.items() if key.affects == "results")


def of_programs() -> frozenset[str]:
    """Keys that the supernet's compiled programs and its data depend on."""
    return frozenset(name for name, key in KEYS.items() if key.programs)

"""What every key of a config has to be, by itself and together with the others."""

import collections
import dataclasses
import difflib
import math
from collections.abc import Callable, Collection, Iterable

from ml_collections import ConfigDict

from darts_pt_jax import nasbench201, network, ops, supervised
from darts_pt_jax.data import batches, sources
from darts_pt_jax.genotype import example
from darts_pt_jax.interop import published
from darts_pt_jax.methods.sdarts import PERTURBATIONS
from darts_pt_jax.naming import guess
from darts_pt_jax.selection import direct, perturbation, schedule, sgas
from darts_pt_jax.spaces import SPACES, SearchSpace
from darts_pt_jax.unrolled import ALPHA_GRADIENTS
from experiments.errors import ConfigError

STAGES = ("search", "select", "retrain", "report")
SGAS = ("sgas", "sgas_perturbation")
"""Values of select.method that decide while they go on with the search."""


def flatten(config: ConfigDict) -> dict:
    """Values by dotted key, tuples as lists (as JSON gives them back)."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": v for inner, v in flatten(value).items()})
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    return flat


def seed_of(config: ConfigDict, stage: str) -> int:
    """The seed of "search", "select" or "retrain": its own, or the run's."""
    return config.seed if config[stage].seed == -1 else config[stage].seed


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value has to be: a predicate, and the words for it, which may depend on the value."""

    holds: Callable[[object], bool]
    expected: str | Callable[[object], str]

    def describe(self, value) -> str:
        """What was expected instead of `value`."""
        return self.expected(value) if callable(self.expected) else self.expected


def _one_of(names: Collection[str]) -> Rule:
    """A name out of `names`, which may still grow."""
    return Rule(lambda v: v in names, lambda v: f"one of {', '.join(names)}{guess(v, names)}")


def _one_of_numbers(numbers: Collection[int]) -> Rule:
    return Rule(lambda v: v in numbers, f"one of {', '.join(map(str, numbers))}")


def _number(low: float, high: float = math.inf, open_low: bool = False) -> Rule:
    def holds(v):
        return (low < v if open_low else low <= v) and v <= high and v != math.inf

    words = f"more than {low}" if open_low else f"at least {low}"
    return Rule(holds, words + (f" and at most {high}" if high < math.inf else ""))


def _numbers(each: Rule) -> Rule:
    def holds(values):
        return all(isinstance(v, int | float) and not isinstance(v, bool) and each.holds(v) for v in values)

    return Rule(holds, lambda v: f"numbers of {each.describe(v)}")


_ANYTHING = Rule(lambda v: True, "")
_POSITIVE, _NOT_NEGATIVE, _RATE = _number(1), _number(0), _number(0, open_low=True)

RULES = {
    "precision": _one_of(("float32", "bfloat16")),
    "matmul_precision": _one_of(("default", "high", "highest")),
    "debug_nans": _ANYTHING,
    "remat": _ANYTHING,
    "devices": _NOT_NEGATIVE,
    "compilation_cache": _ANYTHING,
    "seed": _number(0, 2**32 - 1),
    "init_from": _ANYTHING,
    "init_epoch": _NOT_NEGATIVE,
    "stages": Rule(
        lambda v: v.split(",") == [s for s in STAGES if s in v.split(",")], f"some of {','.join(STAGES)}, in this order"
    ),
    "genotype": _ANYTHING,
    "space": _one_of(SPACES),
    "data.source": Rule(bool, f"{', '.join(sources.SOURCES)}, or a tensorflow-datasets name"),
    "data.path": _ANYTHING,
    "data.dir": _ANYTHING,
    "data.download": _ANYTHING,
    "data.crop": _NOT_NEGATIVE,
    "data.size": _NOT_NEGATIVE,
    "data.examples": _NOT_NEGATIVE,
    "data.train_fraction": Rule(lambda v: 0 < v < 1, "more than 0 and less than 1"),
    "data.pad": _number(-1),
    "data.flip": _one_of(("on", "off", "default")),
    "data.mean": _numbers(_number(0, 1)),
    "data.std": _numbers(_number(0, 1, open_low=True)),
    "supernet.cells": _POSITIVE,
    "supernet.channels": _POSITIVE,
    "search.seed": _number(-1, 2**32 - 1),
    "search.epochs": _POSITIVE,
    "search.batch_size": _number(2),
    "search.sampling": _one_of(batches.SAMPLING),
    "search.alpha": _one_of(("learned", "fixed")),
    "search.alpha_init": _one_of(("noise", "zero")),
    "search.unrolled": _one_of(ALPHA_GRADIENTS),
    "search.perturb": _one_of(PERTURBATIONS),
    "search.epsilon": _number(0, 1),
    "search.epsilon_first": _number(0, 1),
    "search.learning_rate": _RATE,
    "search.learning_rate_min": _NOT_NEGATIVE,
    "search.schedule_epochs": _NOT_NEGATIVE,
    "search.gradients": _one_of(("separate", "shared")),
    "search.scan": _one_of(("auto", "on", "off")),
    "search.momentum": Rule(lambda v: 0 <= v < 1, "at least 0 and less than 1"),
    "search.weight_decay": _NOT_NEGATIVE,
    "search.clip": _RATE,
    "search.alpha_learning_rate": _RATE,
    "search.alpha_weight_decay": _NOT_NEGATIVE,
    "select.seed": _number(-1, 2**32 - 1),
    "select.method": _one_of(
        collections.ChainMap(direct.SELECTORS, dict.fromkeys(("perturbation", "magnitude_tuned", *SGAS)))
    ),
    "select.orders": _POSITIVE,
    "select.criterion": _one_of(perturbation.CRITERIA),
    "select.order": _ANYTHING,
    "select.pairing": _one_of(("both", "single")),
    "select.interval": _NOT_NEGATIVE,
    "select.tune_lr_factor": _RATE,
    "select.topology": _one_of(perturbation.TOPOLOGIES),
    "select.bn": _one_of(("batch", "running")),
    "select.none_is_candidate": _ANYTHING,
    "select.images": _NOT_NEGATIVE,
    "select.augment": _ANYTHING,
    "select.restrict_every": _NOT_NEGATIVE,
    "select.mask_batch": _NOT_NEGATIVE,
    "sgas.criterion": _one_of_numbers(sgas.CRITERIA),
    "sgas.batch_increase": _NOT_NEGATIVE,
    "curvature.every": _NOT_NEGATIVE,
    "curvature.images": _POSITIVE,
    "curvature.stop": Rule(lambda v: 0 <= v < 1, "at least 0 and less than 1"),
    "curvature.window": _POSITIVE,
    "retrain.seed": _number(-1, 2**32 - 1),
    "retrain.form": _one_of(("auto", *network.FORMS)),
    "retrain.cells": _POSITIVE,
    "retrain.channels": _POSITIVE,
    "retrain.epochs": _POSITIVE,
    "retrain.batch_size": _number(2),
    "retrain.learning_rate": _RATE,
    "retrain.schedule": _one_of(supervised.SCHEDULES),
    "retrain.momentum": Rule(lambda v: 0 <= v < 1, "at least 0 and less than 1"),
    "retrain.weight_decay": _NOT_NEGATIVE,
    "retrain.clip": _RATE,
    "retrain.drop_path": Rule(lambda v: 0 <= v < 1, "at least 0 and less than 1"),
    "retrain.auxiliary": _NOT_NEGATIVE,
    "retrain.cutout": _NOT_NEGATIVE,
    "retrain.jitter": Rule(
        lambda v: not v or (len(v) == 4 and all(type(x) in (int, float) and x >= 0 for x in v) and v[3] <= 0.5),
        "four numbers of at least 0, the last at most 0.5, or ()",
    ),
    "retrain.label_smoothing": Rule(lambda v: 0 <= v < 1, "at least 0 and less than 1"),
    "retrain.test_every": _POSITIVE,
    "eval.every": _POSITIVE,
    "eval.images": _NOT_NEGATIVE,
    "checkpoint.snapshots": Rule(lambda v: all(type(e) is int and e >= 1 for e in v), "whole numbers of at least 1"),
    "checkpoint.minutes": _NOT_NEGATIVE,
    "checkpoint.keep": _POSITIVE,
    "report.nasbench201": _ANYTHING,
    "report.latency": _ANYTHING,
    "tensorboard": _ANYTHING,
}
"""A rule for every key."""


def check(config: ConfigDict):
    """Checks every value by itself and together.

    Raises:
      ConfigError: the first key that is wrong.
    """
    values = flatten(config)
    for key in values:
        if key not in RULES:
            raise ConfigError(f"unknown key {key} in the config file: {nearest(key, RULES)}")
    if missing := [key for key in RULES if key not in values]:
        raise ConfigError(f"the config file lacks {', '.join(missing)}: begin with configs/common.py's get_config()")
    for key, rule in RULES.items():
        if not rule.holds(values[key]):
            raise ConfigError(f"{key} is {values[key]!r}, expected {rule.describe(values[key])}")
    if bool(values["data.mean"]) != bool(values["data.std"]):
        raise ConfigError("data.mean and data.std are given together or not at all")
    _check_data(config)
    space = SPACES[config.space]
    _check_space(space)
    _check_search(config, space)
    _check_select(config, space)
    _check_retrain(config)
    if config.report.nasbench201:
        _check_table(config, space)


def _check_data(config: ConfigDict):
    data, source = config.data, sources.find(config.data.source)
    if not data.crop:
        if not source.read:
            raise ConfigError(
                f"data.source is {data.source!r}, whose pictures may be of any size: set data.crop to that of the images"
            )
        return
    if not source.stream:
        raise ConfigError(
            f"data.crop is {data.crop}, but data.source={data.source!r} is kept in memory: set it to 0, or take a folder "
            "or a tensorflow-datasets name"
        )
    if not config.genotype or {"search", "select"} & set(config.stages.split(",")):
        raise ConfigError(f"data.crop is {data.crop}, which is for retraining a given genotype: set it to 0")
    if not data.mean:
        raise ConfigError(
            f"data.crop is {data.crop}, so that mean and standard deviation are not known: give data.mean and data.std"
        )
    for key, idle in {"size": 0, "examples": 0, "download": False}.items():
        if data[key] != idle:
            raise ConfigError(f"data.{key} is {data[key]!r}, which does not go with data.crop: set it to {idle!r}")


def _check_space(space: SearchSpace):
    for kind, graph in space.cells.items():
        for e, edge in enumerate(graph.edges):
            if len(set(edge.candidates)) < len(edge.candidates):
                raise ConfigError(f"space {space.name}, {kind} edge {e} names a candidate twice: {edge.candidates}")
        for name in {name for edge in graph.edges for name in edge.candidates} - ops.OPERATIONS.keys():
            nearest_name = guess(name, ops.OPERATIONS) or " of ops.OPERATIONS"
            raise ConfigError(f"space {space.name} has the candidate {name!r}, which is no operation{nearest_name}")
    _check_notation(space)


def _check_search(config: ConfigDict, space: SearchSpace):
    search = config.search
    if unused := set(space.cells) - set(space.layout(config.supernet.cells)):
        raise ConfigError(
            f"supernet.cells is {config.supernet.cells}, too few for a {' and a '.join(sorted(unused))} cell of {space.name}"
        )
    if search.learning_rate_min > search.learning_rate:
        raise ConfigError(f"search.learning_rate_min is {search.learning_rate_min}, more than search.learning_rate")
    if 0 < search.schedule_epochs < search.epochs:
        raise ConfigError(
            f"search.schedule_epochs is {search.schedule_epochs}, expected 0 or at least search.epochs ({search.epochs})"
        )
    if search.alpha == "fixed":
        for key, idle in {"search.unrolled": "off", "curvature.every": 0}.items():
            section, name = key.split(".")
            if config[section][name] != idle:
                raise ConfigError(f"{key} is {config[section][name]!r}, but search.alpha='fixed' trains no alphas")
    if search.perturb != "none" and search.gradients == "shared":
        raise ConfigError(
            f"search.perturb is {search.perturb!r}, so that alphas and weights have no gradient in common: "
            "set search.gradients=separate"
        )
    if config.curvature.stop and not config.curvature.every:
        raise ConfigError(f"curvature.stop is {config.curvature.stop}, but curvature.every=0 never looks")
    first = 2 * config.curvature.window * config.curvature.every
    if config.curvature.stop and first > search.epochs:
        raise ConfigError(
            f"curvature.stop first compares after epoch {first} (2 curvature.window * curvature.every), but search.epochs "
            f"is {search.epochs}"
        )
    if late := [e for e in config.checkpoint.snapshots if e > search.epochs]:
        raise ConfigError(f"checkpoint.snapshots names epoch {late[0]}, but search.epochs is {search.epochs}")
    if config.init_from and "search" in config.stages.split(","):
        raise ConfigError("init_from takes the supernet from another run: leave search out of --config.stages")
    if config.init_epoch and not config.init_from:
        raise ConfigError("init_epoch names an epoch of the run init_from, which is empty")


def _check_select(config: ConfigDict, space: SearchSpace):
    select = config.select
    if select.method in ("magnitude", "magnitude_tuned", *SGAS) and config.search.alpha == "fixed":
        raise ConfigError(
            f"select.method is {select.method!r}, but search.alpha='fixed' leaves no magnitude to select by"
        )
    if select.method in ("magnitude", *SGAS) and select.orders > 1:
        raise ConfigError(f"select.orders is {select.orders}, but select.method={select.method!r} has no order")
    if select.method in SGAS:
        _check_sgas(config, space)
    if (last := seed_of(config, "select") + select.orders - 1) >= 2**32:
        raise ConfigError(
            f"select.orders is {select.orders}, which leads to the seed {last}, expected at most {2**32 - 1}"
        )
    if not select.none_is_candidate:
        if "perturbation" not in select.method and "none" not in space.magnitude_ignores:
            raise ConfigError(f"select.none_is_candidate=False is for perturbation, select.method is {select.method!r}")
        for kind, graph in space.cells.items():
            if not graph.without(["none"]).any(1).all():
                raise ConfigError(f"select.none_is_candidate is False, but an edge of {kind} has no other candidate")
    if select.order not in schedule.ORDERS:
        try:
            schedule.parse_order(select.order, space)
        except ValueError as error:
            raise ConfigError(f"select.order: {error}") from None


def _check_sgas(config: ConfigDict, space: SearchSpace):
    if reason := sgas.unfit(space):
        fit = ", ".join(name for name, other in SPACES.items() if not sgas.unfit(other))
        raise ConfigError(
            f"select.method is {config.select.method!r}, but space is {space.name!r}, whose {reason}: take {fit}"
        )
    epochs = (config.init_epoch or config.search.epochs) + config.select.interval * len(sgas.decision_points(space))
    if (schedule_epochs := config.search.schedule_epochs or config.search.epochs) < epochs:
        raise ConfigError(
            f"search.schedule_epochs is {schedule_epochs}, but select.method={config.select.method!r} goes on to epoch "
            f"{epochs}: set it to that"
        )


def _check_retrain(config: ConfigDict):
    stages = config.stages.split(",")
    if config.genotype and (idle := [stage for stage in ("search", "select") if stage in stages]):
        raise ConfigError(
            f"genotype names an architecture, so that there is nothing to {' and to '.join(idle)}: "
            "set stages to retrain,report, or genotype to ''"
        )
    if config.genotype and config.init_from:
        raise ConfigError(
            "init_from takes a supernet from another run, but genotype names an architecture: leave one out"
        )
    if "retrain" in stages and not config.genotype and config.select.orders > 1:
        raise ConfigError(
            f"select.orders is {config.select.orders}, but stage retrain trains one architecture: set it to 1, or retrain "
            "each genotype file by itself"
        )


def _check_table(config: ConfigDict, space: SearchSpace):
    try:
        notation = published.find(config.genotype).notation if config.genotype else space.notation
    except ValueError as error:
        raise ConfigError(f"genotype: {error}") from None
    if notation != "nasbench201":
        of = "such a genotype" if config.genotype else f"space {space.name}"
        raise ConfigError(f"report.nasbench201 names a table, but it has no architectures of {of}: set it to ''")
    try:
        nasbench201.Table(config.report.nasbench201)
    except nasbench201.TableError as error:
        raise ConfigError(f"report.nasbench201: {error}") from error


def _check_notation(space: SearchSpace):
    """Refuses a space whose architectures cannot be written in its notation, before any is found."""
    try:
        example(space).text(space.notation)
    except ValueError as error:
        raise ConfigError(f"space {space.name}: {error}") from error


def nearest(key: str, known: Iterable[str]) -> str:
    """The key that was probably meant: by the whole name, by its last part, or by its section."""
    parts = {k: k for k in known} | {k.rpartition(".")[-1]: k for k in known}
    sections = {k.partition(".")[0]: k.partition(".")[0] for k in known if "." in k}
    for names, wanted in ((parts, key), (parts, key.rpartition(".")[-1]), (sections, key.partition(".")[0])):
        if near := difflib.get_close_matches(wanted, names, 1, 0.7):
            return f"did you mean {names[near[0]]}?"
    return f"the keys are {', '.join(known)}"

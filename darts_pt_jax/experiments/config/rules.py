"""Rules across keys. The rule of a single key is in keys.py."""

import importlib.util
from collections.abc import Callable
from typing import Any

from darts_pt_jax import nasbench201, ops
from darts_pt_jax.data import sources
from darts_pt_jax.experiments.config.schema import KEYS, Config, limits, not_default, seed_of, value
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.genotype import example
from darts_pt_jax.interop import published
from darts_pt_jax.naming import install
from darts_pt_jax.samplers import make_sampler
from darts_pt_jax.selection import schedule, sgas
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.selection.strategies import STRATEGIES
from darts_pt_jax.spaces import SPACES, SearchSpace


def check(config: Config):
    """Checks every value, and what has to fit together.

    Raises:
      ConfigError: the first key that is wrong.
    """
    for name, key in KEYS.items():
        if not key.rule.holds(given := value(config, name)):
            shown = list(given) if isinstance(given, tuple) else given
            raise ConfigError(f"{name} is {shown!r}, expected {key.rule.describe(given)}")
    _check_data(config)
    space = SPACES[config.space]
    _check_space(space)
    _check_search(config, space)
    _check_curvature(config)
    _check_init(config)
    _check_select(config, space)
    _check_retrain(config)
    if config.report.nasbench201:
        _check_table(config, space)
    if config.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError(f"wandb is True, but its package is missing: {install('wandb')}")


def _check_data(config: Config):
    data, source = config.data, sources.find(config.data.source)
    if bool(data.mean) != bool(data.std):
        raise ConfigError("data.mean and data.std are given together or not at all")
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
        if (given := getattr(data, key)) != idle:
            raise ConfigError(f"data.{key} is {given!r}, which does not go with data.crop: set it to {idle!r}")


def _check_space(space: SearchSpace):
    for kind, graph in space.cells.items():
        for e, edge in enumerate(graph.edges):
            if len(set(edge.candidates)) < len(edge.candidates):
                raise ConfigError(f"space {space.name}, {kind} edge {e} names a candidate twice: {edge.candidates}")
    try:
        ops.check_space(space)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _check_notation(space)


def _check_search(config: Config, space: SearchSpace):
    search = config.search
    if unused := set(space.cells) - set(space.layout(config.supernet.cells)):
        raise ConfigError(
            f"supernet.cells is {config.supernet.cells}, too few for a {' and a '.join(sorted(unused))} cell of {space.name}"
        )
    if config.supernet.channels % config.supernet.channel_share:
        raise ConfigError(
            f"supernet.channel_share is {config.supernet.channel_share}, expected a divisor of supernet.channels "
            f"({config.supernet.channels})"
        )
    if search.learning_rate_min > search.learning_rate:
        raise ConfigError(f"search.learning_rate_min is {search.learning_rate_min}, more than search.learning_rate")
    if 0 < search.schedule_epochs < search.epochs:
        raise ConfigError(
            f"search.schedule_epochs is {search.schedule_epochs}, expected 0 or at least search.epochs ({search.epochs})"
        )
    if rest := _at_rest(config):
        unused = {
            "search.unrolled": "off",
            "curvature.every": 0,
            "search.alpha_start": 0,
            "search.alpha_regulariser": "none",
        }
        for key, idle in unused.items():
            if (given := value(config, key)) != idle:
                raise ConfigError(f"{key} is {given!r}, but {rest} trains no alphas")
    if search.alpha_start >= search.epochs:
        raise ConfigError(
            f"search.alpha_start is {search.alpha_start}, expected less than search.epochs ({search.epochs})"
        )
    regulariser, weight = search.alpha_regulariser, search.alpha_regulariser_weight
    if (regulariser == "none") != (weight == 0):
        raise ConfigError(
            f"search.alpha_regulariser is {regulariser!r} and its weight {weight}: set search.alpha_regulariser_weight "
            "above 0 with a regulariser, and to 0 with none"
        )
    sampler = make_sampler(search.sampler, vars(search))
    if (sampler.sample or sampler.perturb) and search.gradients == "shared":
        raise ConfigError(
            f"search.sampler is {search.sampler!r}, so that alphas and weights have no gradient in common: "
            "set search.gradients=separate"
        )
    if late := [e for e in config.checkpoint.snapshots if e > search.epochs]:
        raise ConfigError(f"checkpoint.snapshots names epoch {late[0]}, but search.epochs is {search.epochs}")


def _at_rest(config: Config) -> str:
    """The key that leaves the alphas alone, with its value; "" if they are trained."""
    search = config.search
    if search.alpha == "fixed":
        return "search.alpha='fixed'"
    return "" if make_sampler(search.sampler, vars(search)).learns else f"search.sampler={search.sampler!r}"


def _check_curvature(config: Config):
    curvature, epochs = config.curvature, config.search.epochs
    if not curvature.stop:
        return
    if not curvature.every:
        raise ConfigError(f"curvature.stop is {curvature.stop}, but curvature.every=0 never looks")
    first = 2 * curvature.window * curvature.every
    if first > epochs:
        raise ConfigError(
            f"curvature.stop first compares after epoch {first} (2 curvature.window * curvature.every), but search.epochs "
            f"is {epochs}"
        )


def _check_init(config: Config):
    if config.init_from and "search" in config.stages.split(","):
        raise ConfigError("init_from takes the supernet from another run: leave search out of --config.stages")
    if config.init_epoch and not config.init_from:
        raise ConfigError("init_epoch names an epoch of the run init_from, which is empty")


def _check_select(config: Config, space: SearchSpace):
    select, method = config.select, METHODS[config.select.method]
    if method.reads_alphas and (rest := _at_rest(config)):
        raise ConfigError(f"select.method is {select.method!r}, but {rest} leaves no magnitude to select by")
    if not method.draws and select.orders > 1:
        raise ConfigError(f"select.orders is {select.orders}, but select.method={select.method!r} has no order")
    if method.greedy:
        _check_sgas(config, space)
    _check_race(config)
    _check_limits(config)
    if select.top > 1 and method.at_random:
        raise ConfigError(f"select.top is {select.top}, but choices by {method.name!r} have no margins: set it to 1")
    if select.top > 1 and select.race:
        raise ConfigError(
            f"select.top is {select.top} and select.race {select.race}: margins of races count different numbers of images: "
            "set top to 1 or race to 0"
        )
    if select.top > 1 and select.orders > 1:
        raise ConfigError(f"select.top is {select.top} and select.orders {select.orders}: set one of them to 1")
    if (last := seed_of(config, "select") + select.orders - 1) >= 2**32:
        raise ConfigError(
            f"select.orders is {select.orders}, which leads to the seed {last}, expected at most {2**32 - 1}"
        )
    if STRATEGIES[select.strategy].masks is None and select.criterion != "loss":
        raise ConfigError(
            f"select.strategy is {select.strategy!r}, which follows the slope of the loss: set select.criterion=loss"
        )
    if not select.none_is_candidate:
        if not method.scores and "none" not in space.magnitude_ignores:
            raise ConfigError(f"select.none_is_candidate=False is for perturbation, select.method is {select.method!r}")
        for kind, graph in space.cells.items():
            if not graph.without(["none"]).any(1).all():
                raise ConfigError(f"select.none_is_candidate is False, but an edge of {kind} has no other candidate")
    if select.order in schedule.MEASURED and (not method.scores or method.greedy):
        raise ConfigError(f"select.order={select.order!r} is for select.method='perturbation', got {select.method!r}")
    if select.order == "certain" and STRATEGIES[select.strategy].masks is None:
        raise ConfigError(
            f"select.order='certain' needs standard errors, which {select.strategy!r} does not give: set one of them"
        )
    if select.order not in schedule.ORDERS + schedule.MEASURED:
        try:
            schedule.parse_order(select.order, space)
        except ValueError as error:
            raise ConfigError(f"select.order: {error}") from None


def unscored(config: Config) -> dict[str, Any]:
    """The keys of a config that a selection without scores may not obey, with values that suit any."""
    race = {"select.race": 0.0} if config.select.race else {}
    order = {"select.order": "random"} if config.select.order in schedule.MEASURED else {}
    return race | order


def _by_masks(config: Config) -> bool:
    """Whether any choice compares masks: of an operation, or of the inputs of a node."""
    method = METHODS[config.select.method]
    return method.scores and (STRATEGIES[config.select.strategy].masks is not None or _scores_inputs(config))


def _scores_inputs(config: Config) -> bool:
    """Whether the inputs of nodes are chosen, and by scores."""
    method, space = METHODS[config.select.method], SPACES[config.space]
    return method.scores and not method.greedy and any(map(space.choosable_nodes, space.cells))


def _one_by_one(config: Config) -> bool:
    """Whether decisions are taken one by one, in an order of its own."""
    method = METHODS[config.select.method]
    return not method.selector and not method.greedy


def _scores_or_measures(config: Config, but: str) -> bool:
    """Whether the method scores masks, or measures other values than `but`."""
    method = METHODS[config.select.method]
    return method.scores or method.values not in ("", but)


HEEDED: tuple[tuple[tuple[str, ...], Callable[[Config], bool]], ...] = (
    (("strategy", "criterion"), lambda config: METHODS[config.select.method].scores),
    (("ties", "mask_batch"), _by_masks),
    (("topology",), _scores_inputs),
    (("order", "pairing"), _one_by_one),
    (("tune_lr_factor",), lambda config: _one_by_one(config) and config.select.interval > 0),
    (("interval", "restrict_every"), lambda config: not METHODS[config.select.method].selector),
    (("bn", "augment"), lambda config: _scores_or_measures(config, "fisher")),
    (("images",), lambda config: _scores_or_measures(config, "shapley")),
    (("permutations",), lambda config: METHODS[config.select.method].values == "shapley"),
)
"""Keys of the section select, and where they do anything. Rules above refuse others."""


def unheeded(config: Config) -> str:
    """A sentence on the keys that are not at their defaults, but do nothing in this selection; "" without such keys."""
    given = not_default(config) if "select" in config.stages.split(",") else {}
    found = [
        f"{key}={given[key]!r}"
        for names, acts in HEEDED
        for key in (f"select.{name}" for name in names)
        if key in given and not acts(config)
    ]
    how = f"select.method={config.select.method}, select.strategy={config.select.strategy}"
    return f"these keys do nothing with {how}: {', '.join(found)}" if found else ""


def _check_race(config: Config):
    select = config.select
    if not select.race:
        return
    needed = {
        "criterion": ("acc", "the bound needs outcomes between two limits"),
        "strategy": ("leave_one_out", "the others do not compare single removals"),
        "topology": ("leave_one_out", "a ranking needs the full scores of all inputs"),
    }
    if not METHODS[select.method].scores:
        raise ConfigError(
            f"select.race stops scoring early, but select.method={select.method!r} scores nothing: set it to 0"
        )
    for name, (only, why) in needed.items():
        if getattr(select, name) != only:
            raise ConfigError(
                f"select.race is for select.{name}={only!r}, got {getattr(select, name)!r} ({why}): set one of them"
            )


def _check_limits(config: Config):
    select, given = config.select, list(limits(config))
    if not given:
        return
    if select.race:
        raise ConfigError(
            f"select.race drops candidates that {given[0]} may have to choose: set select.race=0, or {' and '.join(given)} to 0"
        )
    if not METHODS[select.method].keeps_budgets:
        raise ConfigError(
            f"{given[0]} is set, but the selector of select.method={select.method!r} has no argument budget: set it to 0"
        )


def _check_sgas(config: Config, space: SearchSpace):
    if not make_sampler(config.search.sampler, vars(config.search)).sums_to_one:
        raise ConfigError(
            f"select.method is {config.select.method!r}, which compares edges by weights that sum to 1, but those of "
            f"search.sampler={config.search.sampler!r} do not: take another selection"
        )
    if reason := sgas.unfit(space):
        fit = ", ".join(name for name, other in SPACES.items() if not sgas.unfit(other))
        raise ConfigError(
            f"select.method is {config.select.method!r}, but space is {space.name!r}, whose {reason}: take {fit}"
        )
    epochs = (config.init_epoch or config.search.epochs) + config.select.interval * len(sgas.decision_points(space))
    if (schedule_epochs := config.search.schedule_epochs or config.search.epochs) < epochs:
        raise ConfigError(
            f"search.schedule_epochs is {schedule_epochs}, but select.method={config.select.method!r} continues to epoch "
            f"{epochs}: set it to that"
        )


def _check_retrain(config: Config):
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


def _check_table(config: Config, space: SearchSpace):
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

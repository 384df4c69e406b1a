"""The command line: from arguments to a checked config. Every value is checked before anything is computed."""

import dataclasses
import difflib
import inspect
import json
import pathlib
import re
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from darts_pt_jax import hosts
from darts_pt_jax.data import sources
from darts_pt_jax.naming import guess
from experiments.config import plugins, reference
from experiments.config.rules import check
from experiments.config.schema import KEYS, Config, frozen, renamed, seed_of
from experiments.config.spelling import nearest
from experiments.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one command asks for.

    Attributes:
      config: all values, checked.
      workdir: the run directory.
      plan: whether only to describe the run.
      hosts: arguments of `hosts.join`, if the run is one of several processes.
      argv: its arguments, without the program.
    """

    config: Config
    workdir: pathlib.Path
    plan: bool
    hosts: dict | None
    argv: tuple[str, ...]

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to run, in order."""
        return tuple(self.config.stages.split(","))


def parse(argv: Sequence[str]) -> Settings:
    """Reads the command line.

    Raises:
      ConfigError: a flag or a config value is unknown, malformed or impossible, or a plugin is missing or fails.
    """
    plugins.use(None)
    arguments, overrides = _split(argv)
    options, rest = _options(arguments)
    config = _overridden(_of_file(options.config), overrides)
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}: options look like --config.search.epochs=2")
    workdir = pathlib.Path(options.workdir or _default_workdir(config, options.config))
    config = _with_plugins(config, options.config, workdir)
    check(config)
    given = any(override.startswith("--config.data.path=") for override in overrides)
    if given and not sources.find(config.data.source).takes_path:
        fit = " or ".join(name for name, source in sources.SOURCES.items() if source.takes_path)
        raise ConfigError(
            f"data.path is given, but data.source is {config.data.source!r}: add --config.data.source={fit}"
        )
    if config.init_from and workdir.resolve() == pathlib.Path(config.init_from).resolve():
        raise ConfigError(f"--workdir {workdir} is the run that init_from names, which is only read: name another")
    return Settings(config, workdir, options.plan, _hosts(options), tuple(argv[1:]))


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates overrides, such as --config.seed=1, from the other arguments.

    Earlier names of keys become today's; a value that is an argument of its own is joined to its key.

    Raises:
      ConfigError: there is no such key.
    """
    others, overrides, without_value = [], [], False
    for argument in argv:
        if without_value:
            overrides[-1] += f"={argument}"
        elif _OVERRIDE.match(argument):
            overrides.append(argument)
        else:
            others.append(argument)
        without_value = bool(overrides) and argument is overrides[-1] and _needs_value(argument)
    return others, [_renamed(override) for override in overrides]


_OVERRIDE = re.compile(r"--?(?P<no>no)?config\.(?P<key>[^=]*)(?P<value>=.*)?", re.DOTALL)


def _needs_value(override: str) -> bool:
    """Whether its value is the next argument."""
    no, key, value = _OVERRIDE.fullmatch(override).groups()
    (key,) = renamed({key: ""})
    return not no and value is None and key in KEYS and KEYS[key].type is not bool


def _renamed(override: str) -> str:
    """An override by today's name of its key.

    Raises:
      ConfigError: there is no such key.
    """
    no, key, value = _OVERRIDE.fullmatch(override).groups()
    if value is not None:
        ((key, value),) = renamed({key: value[1:]}).items()
    if key not in KEYS:
        if section := [name for name in sorted(KEYS) if name.startswith(f"{key}.")]:
            raise ConfigError(f"{key} is a section: set one of its keys {', '.join(section)}")
        raise ConfigError(f"unknown key {key}: {nearest(key, sorted(KEYS))}")
    return f"--{no or ''}config.{key}" + ("" if value is None else f"={value}")


def _options(arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """The options other than overrides, and the remaining arguments.

    Raises:
      ConfigError: an option is unknown or malformed, or --config is missing.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "FILE[:ARGUMENT]: one of configs/*.py.", flag_values=values)
    flags.DEFINE_string("workdir", "", "Run directory (default: runs/CONFIG-seedSEED).", flag_values=values)
    flags.DEFINE_bool("plan", False, "Print what would be done, and do nothing.", flag_values=values)
    flags.DEFINE_bool("distributed", False, "One of several processes, which jax finds.", flag_values=values)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes.", flag_values=values)
    flags.DEFINE_integer("processes", None, "How many processes there are.", flag_values=values)
    flags.DEFINE_integer("process", None, "Which of them this one is, from 0.", flag_values=values)
    flags.DEFINE_bool("help", False, "Print this.", short_name="h", flag_values=values)
    try:
        rest = values(list(arguments))
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        near = [f"config.{name}"] if name in KEYS else difflib.get_close_matches(name, list(values), 1, 0.7)
        hint = f"did you mean --{near[0]}?" if near else "keys look like --config.search.epochs=2"
        raise ConfigError(f"unknown option --{name}: {hint}") from error
    except flags.Error as error:
        raise ConfigError(" ".join(str(error).split())) from error
    if values.help:
        print(reference.help_text())
        raise SystemExit(0)
    if values.config is None:
        raise ConfigError("--config is missing: give a config file, such as --config=configs/quickstart.py")
    return values, rest


def _of_file(option: str) -> Config:
    """The config that FILE[:ARGUMENT] gives.

    Raises:
      ConfigError: there is no such file, or it fails, or a key of its config is wrong.
    """
    path, colon, argument = option.partition(":")
    if not pathlib.Path(path).is_file():
        files = map(str, pathlib.Path(path).parent.glob("*.py"))
        raise ConfigError(f"--config {path}: no such file{guess(path, files)}")
    make = getattr(plugins.import_config(path), "get_config", None)
    if make is None:
        raise ConfigError(f"--config {path}: it has no function get_config, which returns the config")
    if colon and not inspect.signature(make).parameters:
        raise ConfigError("--config: this config takes no argument: leave out what stands after the colon")
    with plugins.failing("the config file fails", path):
        config = make(*[argument] * bool(colon))
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config {path}: get_config returns {config!r:.80}, expected a ConfigDict")
    return frozen(config)


def _overridden(config: Config, overrides: Sequence[str]) -> Config:
    """The config with the values of --config.KEY=VALUE.

    Raises:
      ConfigError: a value is of another type than its key's.
    """
    values, arguments = flags.FlagValues(), ["", *overrides]
    changed = ConfigDict(dataclasses.asdict(config))
    try:
        config_flags.DEFINE_config_dict("config", changed, flag_values=values, sys_argv=arguments)
        values(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        if (wrong := re.match(r"flag --config\.([\w.]+)=(.*?): ", said)) and wrong[1] in KEYS:
            said = KEYS[wrong[1]].mismatch(wrong[2])
        raise ConfigError(said) from error
    return frozen(changed)


def _with_plugins(config: Config, file: str, workdir: pathlib.Path) -> Config:
    """The config with its plugins, imported: those that it names, and its file if that adds rows to tables.

    Where there are none, those of the run directory, or of the run that init_from names.

    Raises:
      ConfigError: one is missing or fails.
    """
    named = plugins.joined(config.plugins, plugins.of_config(file.partition(":")[0])) or _plugins_of(workdir)
    if not named and config.init_from:
        named = _plugins_of(pathlib.Path(config.init_from))
    return config.changed({"plugins": plugins.load(named)})


def _plugins_of(run: pathlib.Path) -> str:
    """The plugins of a run, as far as its run.json can be read: whoever opens the run says what is wrong with it."""
    try:
        return str(json.loads((run / "run.json").read_text())["config"].get("plugins", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _hosts(values: flags.FlagValues) -> dict | None:
    given = {name: values[name].value for name in ("coordinator", "processes", "process")}
    if all(value is None for value in given.values()):
        return given if values.distributed else None
    if missing := [name for name, value in given.items() if value is None]:
        raise ConfigError(f"--{missing[0]} is missing: --coordinator, --processes and --process go together")
    if not 0 <= given["process"] < given["processes"]:
        raise ConfigError(
            f"--process is {given['process']}, expected 0 to {given['processes'] - 1} (--processes less 1)"
        )
    if not re.fullmatch(r".+:\d+", given["coordinator"]):
        raise ConfigError(f"--coordinator is {given['coordinator']!r}, expected HOST:PORT of the first process")
    return given


def join(settings: Settings):
    """Joins the other processes, if the command is one of several.

    Raises:
      ConfigError: the command does not name the processes, and jax does not find them.
    """
    if settings.hosts is None:
        return
    try:
        hosts.join(**settings.hosts)
    except ValueError as error:
        raise ConfigError(
            f"--distributed: jax recognises no cluster here ({error}): give --coordinator, --processes and --process"
        ) from error


def _default_workdir(config: Config, file: str) -> str:
    path, _, argument = file.partition(":")
    if not config.init_from:
        name = "-".join([pathlib.Path(path).stem, *filter(None, argument.split(","))])
        return f"runs/{name}-seed{config.seed}"
    epoch = f"-epoch{config.init_epoch}" if config.init_epoch else ""
    return f"{config.init_from.rstrip('/')}{epoch}-{config.select.method}-seed{seed_of(config, 'select')}"

"""The command line: from arguments to a checked config. Every value is checked before anything is computed."""

import contextlib
import dataclasses
import inspect
import os
import pathlib
import re
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from darts_pt_jax import hosts
from darts_pt_jax.data import sources
from darts_pt_jax.experiments import commands, streams
from darts_pt_jax.experiments.config import plugins, reference
from darts_pt_jax.experiments.config.schema import KEYS, Config, frozen, meant, renamed, seed_of
from darts_pt_jax.experiments.config.stored import config_in
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.naming import guess, nearest


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one command asks for.

    Attributes:
      config: all values, checked.
      workdir: the run directory.
      plan: whether only to describe the run.
      hosts: arguments of `hosts.join`, if the run is one of several processes.
      argv: its arguments, without the program.
      config_named: whether --config is given; otherwise a run's own config is the base.
    """

    config: Config
    workdir: pathlib.Path
    plan: bool
    hosts: dict | None
    argv: tuple[str, ...]
    config_named: bool = False

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to run, in order."""
        return tuple(self.config.stages.split(","))


def parse(argv: Sequence[str]) -> Settings:
    """Reads the command line.

    The config begins with that of --config, or else with that of the run in --workdir, or of the run that init_from names;
    then --config.KEY=VALUE changes it.

    Raises:
      ConfigError: a flag or a config value is unknown, malformed or impossible, or a plugin is missing or fails.
      RunError: the run.json of that run is damaged.
    """
    plugins.use(None)
    argv = _whole(argv)
    arguments, overrides = _split(argv)
    options, rest = _options(arguments)
    from darts_pt_jax.experiments.config.rules import check  # imports jax, which --help does not need

    if len(rest) > 1:
        command = guess(rest[1], map(commands.dashed, commands.COMMANDS))
        raise ConfigError(f"unexpected argument {rest[1]!r}{command or ': options look like --config.search.epochs=2'}")
    base = _named(options.config) if options.config else _of_run(options.workdir, overrides)
    config = _overridden(base, overrides)
    if config.init_from:
        config = config.changed({"init_from": os.path.abspath(config.init_from)})  # as runs keep it
    workdir = pathlib.Path(options.workdir or _default_workdir(config, options.config))
    if config.init_from and workdir.resolve() == pathlib.Path(config.init_from).resolve():
        raise ConfigError(f"--workdir {workdir} is the run that init_from names, which is only read: name another")
    for name, path in {"--workdir": workdir, "init_from": pathlib.Path(config.init_from)}.items():
        _check_characters(name, path.absolute())
    config = _with_plugins(config, options.config, workdir)
    check(config)
    given = any(override.startswith("--config.data.path=") for override in overrides)
    if given and not sources.find(config.data.source).takes_path:
        fit = " or ".join(name for name, source in sources.SOURCES.items() if source.takes_path)
        raise ConfigError(
            f"data.path is given, but data.source is {config.data.source!r}: add --config.data.source={fit}"
        )
    return Settings(config, workdir, options.plan, _hosts(options), tuple(argv[1:]), bool(options.config))


def _whole(argv: Sequence[str]) -> list[str]:
    """The arguments, with those of the lines of FILE in the place of --flagfile=FILE; ~ is the home directory.

    Raises:
      ConfigError: such a file cannot be read.
    """
    try:
        return commands.at_home(flags.FlagValues().read_flags_from_files(commands.at_home(argv)))
    except (flags.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--flagfile: {error}") from error


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
        raise ConfigError(f"unknown key {key}: {meant(key)}")
    return f"--{no or ''}config.{key}" + ("" if value is None else f"={value}")


def _options(arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """The options other than overrides, and the remaining arguments.

    Raises:
      ConfigError: an option is unknown or malformed.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "FILE[:ARGUMENT], one of configs/*.py; or RUN_DIR.", flag_values=values)
    flags.DEFINE_string("workdir", "", "Run directory (default: runs/CONFIG-seedSEED).", flag_values=values)
    flags.DEFINE_bool("plan", False, "Print what would be done, and do nothing.", flag_values=values)
    flags.DEFINE_bool("distributed", False, "One of several processes, which jax finds.", flag_values=values)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes.", flag_values=values)
    flags.DEFINE_integer("processes", None, "How many processes there are.", flag_values=values)
    flags.DEFINE_integer("process", None, "Which of them this one is, from 0.", flag_values=values)
    flags.DEFINE_bool("help", False, "Print this.", short_name="h", flag_values=values)
    flags.DEFINE_bool("version", False, "Print the version.", flag_values=values)
    try:
        rest = values(list(arguments))
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        near = f"config.{name}" if name in KEYS else nearest(name, list(values))
        hint = f"did you mean --{near}?" if near else "keys look like --config.search.epochs=2"
        raise ConfigError(f"unknown option --{name}: {hint}") from error
    except flags.Error as error:
        raise ConfigError(" ".join(str(error).split())) from error
    if values.help:
        streams.write(f"{commands.as_called(reference.help_text())}\n")
        raise SystemExit(0)
    if values.version:
        streams.write(f"{commands.VERSION}\n")
        raise SystemExit(0)
    return values, rest


def _of_run(workdir: str, overrides: Sequence[str]) -> Config:
    """The config of the run in `workdir`; if there is none, that for a selection from the run that init_from names.

    Raises:
      ConfigError: there is no such run.
      RunError: its run.json is damaged.
    """
    if workdir and (pathlib.Path(workdir) / "run.json").is_file():
        return config_in(pathlib.Path(workdir))
    source = _overridden(Config(), overrides).init_from
    if not source or os.path.isfile(source):  # a PyTorch checkpoint holds no config
        what = f"--workdir {workdir} holds no run" if workdir else "--config is missing"
        raise ConfigError(
            f"{what}: give a config file, such as --config=configs/quickstart.py, or a run by --workdir or "
            "--config.init_from"
        )
    config = config_in(pathlib.Path(source))
    if config.genotype:
        raise ConfigError(f"init_from {source}: it retrains a given architecture, and has no supernet")
    return config.changed({"stages": "select,report", "init_epoch": 0})


def _named(option: str) -> Config:
    """The config that FILE[:ARGUMENT] gives, or the config of the run RUN_DIR.

    Raises:
      ConfigError: there is no such file or run, or the file fails, or a key of its config is wrong.
      RunError: the run.json of the run is damaged.
    """
    if os.path.isdir(option):
        return config_in(pathlib.Path(option))
    name, colon, argument = option.partition(":")
    path = _found(name)
    if not os.path.isfile(path):
        files = [
            *pathlib.Path(path).parent.glob("*.py"),
            *(f"configs/{own.name}" for own in reference.CONFIGS.glob("*.py")),
        ]
        raise ConfigError(f"--config {path}: no such file{guess(path, map(str, files))}")
    if not path.endswith(".py"):
        raise ConfigError(f"--config {path}: expected a Python file, whose name ends in .py, or a run directory")
    module = plugins.import_config(path)
    make = getattr(module, "get_config", None)
    if make is None:
        raise ConfigError(f"--config {path}: it has no function get_config, which returns the config")
    if colon and not inspect.signature(make).parameters:
        raise ConfigError("--config: this config takes no argument: leave out what stands after the colon")
    with plugins.failing("the config file fails", path):
        config = make(*[argument] * bool(colon))
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config {path}: get_config returns {config!r:.80}, expected a ConfigDict")
    return frozen(config)


def _found(path: str) -> str:
    """The file of a config. Where the current folder has no configs/NAME.py, it is that of this package."""
    if pathlib.Path(path).parent == pathlib.Path("configs") and not os.path.exists(path):
        own = reference.CONFIGS / pathlib.Path(path).name
        return str(own) if own.is_file() else path
    return path


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


def _with_plugins(config: Config, file: str | None, workdir: pathlib.Path) -> Config:
    """The config with its plugins, imported: those that it names, and its file if that adds rows to tables.

    Where there are none, those of the run directory, or of the run that init_from names.

    Raises:
      ConfigError: one is missing or fails.
    """
    own = plugins.of_config(_found(file.partition(":")[0])) if file else ""
    named = plugins.joined(config.plugins, own) or _plugins_of(workdir)
    if not named and config.init_from:
        named = _plugins_of(pathlib.Path(config.init_from))
    return config.changed({"plugins": plugins.load(named)})


def _plugins_of(run: pathlib.Path) -> str:
    """The plugins of a run, if its run.json can be read: whoever opens the run says what is wrong with it."""
    with contextlib.suppress(ConfigError, RunError, OSError):
        return config_in(run).plugins
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


def _check_characters(name: str, path: pathlib.Path):
    """Refuses a path that the library of the checkpoints cannot open."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name}: {str(path)!a} has bytes that are no UTF-8: name another directory") from error


def _default_workdir(config: Config, file: str | None) -> str:
    """A place in runs/, named after the source of the supernet and the folder that it lies in, or else after the config."""
    if config.init_from:
        epoch = f"-epoch{config.init_epoch}" if config.init_epoch else ""
        parent, source = pathlib.Path(config.init_from).parts[-2:]
        source = source if parent in ("runs", "/") else f"{parent}-{source}"
        return f"runs/{source}{epoch}-{config.select.method}-seed{seed_of(config, 'select')}"
    path, _, argument = (file, "", "") if os.path.isdir(file) else file.partition(":")
    parts = (pathlib.PurePath(part).name.removesuffix(".npz") for part in argument.split(","))  # one may be a path
    name = "-".join([pathlib.Path(os.path.abspath(path)).stem, *filter(None, parts)])
    return f"runs/{name}-seed{config.seed}"

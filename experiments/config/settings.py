"""The command line: from arguments to a checked config. Nothing is computed before every value has been looked at."""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import common
from darts_pt_jax import hosts
from darts_pt_jax.data import sources
from darts_pt_jax.naming import guess
from experiments.config.rules import check, flatten, nearest, seed_of
from experiments.errors import ConfigError


def fail(message, code: int) -> int:
    """Says in one line on standard error what went wrong, and returns the exit code."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return code


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one command asks for.

    Attributes:
      config: all values, checked.
      workdir: the run directory.
      plan: whether only to describe the run.
      hosts: what `hosts.join` is told, where the run is one of several processes.
      argv: its arguments, without the program.
    """

    config: ConfigDict
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
      ConfigError: a flag or a config value is unknown, malformed or impossible.
    """
    _refuse_missing_file(argv)
    file, _ = _load([a for a in argv if not _is_override(a)])
    _refuse_unknown_keys(argv, flatten(file.config))
    values, rest = _load(argv)
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}: options look like --config.search.epochs=2")
    config = values.config
    check(config)
    given = any(argument.lstrip("-").startswith("config.data.path=") for argument in argv)
    if given and not sources.find(config.data.source).takes_path:
        fit = " or ".join(name for name, source in sources.SOURCES.items() if source.takes_path)
        raise ConfigError(
            f"data.path is given, but data.source is {config.data.source!r}: add --config.data.source={fit}"
        )
    workdir = pathlib.Path(values.workdir or _default_workdir(config, _name(values)))
    if config.init_from and workdir.resolve() == pathlib.Path(config.init_from).resolve():
        raise ConfigError(f"--workdir {workdir} is the run that init_from names, which is only read: name another")
    return Settings(config, workdir, values.plan, _hosts(values), tuple(argv[1:]))


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
    """Becomes one of several processes, if the command is.

    Raises:
      ConfigError: it says not of which, and jax does not find out.
    """
    if settings.hosts is None:
        return
    try:
        hosts.join(**settings.hosts)
    except ValueError as error:
        raise ConfigError(
            f"--distributed: jax recognises no cluster here ({error}): give --coordinator, --processes and --process"
        ) from error


def _name(values: flags.FlagValues) -> str:
    """The config file's name with its argument."""
    file, _, argument = config_flags.get_config_filename(values["config"]).partition(":")
    return "-".join([pathlib.Path(file).stem, *filter(None, argument.split(","))])


def _default_workdir(config: ConfigDict, name: str) -> str:
    if not config.init_from:
        return f"runs/{name}-seed{config.seed}"
    epoch = f"-epoch{config.init_epoch}" if config.init_epoch else ""
    return f"{config.init_from.rstrip('/')}{epoch}-{config.select.method}-seed{seed_of(config, 'select')}"


def _is_override(argument: str) -> bool:
    return argument.startswith("-") and argument.lstrip("-").removeprefix("no").startswith("config.")


def _load(argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", help_string="Config file: one of configs/*.py.", flag_values=values)
    flags.DEFINE_string("workdir", "", "Run directory (default: runs/CONFIG-seedSEED).", flag_values=values)
    flags.DEFINE_bool("plan", False, "Print what would be done, and do nothing.", flag_values=values)
    flags.DEFINE_bool("distributed", False, "One of several processes, which jax finds.", flag_values=values)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes.", flag_values=values)
    flags.DEFINE_integer("processes", None, "How many processes there are.", flag_values=values)
    flags.DEFINE_integer("process", None, "Which of them this one is, from 0.", flag_values=values)
    flags.DEFINE_bool("help", False, "Print this.", short_name="h", flag_values=values)
    system_argv, sys.argv = sys.argv, list(argv)  # ml_collections looks for overrides there
    try:
        rest = values(list(argv))
        if values.help:
            print(_help())
            raise SystemExit(0)
        if values.config is None:
            raise ConfigError("--config is missing: give a config file, such as --config=configs/quickstart.py")
        values.config.lock()  # a file that failed to load speaks up only when it is used
    except ConfigError:
        raise
    except Exception as error:
        if "get_config() takes 0 positional arguments" in str(error):
            raise ConfigError(
                "--config: this config takes no argument: leave out what stands after the colon"
            ) from error
        # an error inside the config file comes with its traceback: the last line says what it is
        if "Traceback" in str(error):
            raise ConfigError(f"the config file fails: {str(error).strip().splitlines()[-1]}") from error
        hint = ": keys look like --config.search.epochs=2" if isinstance(error, flags.UnrecognizedFlagError) else ""
        raise ConfigError(f"{' '.join(str(error).split())}{hint}") from error
    finally:
        sys.argv = system_argv
    return values, rest


def _refuse_missing_file(argv: Sequence[str]):
    for flag, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = flag.lstrip("-").partition("=")
        path = pathlib.Path((value if equals else following).partition(":")[0])
        if flag.startswith("-") and name == "config" and not path.is_file():
            raise ConfigError(f"--config {path}: no such file{guess(str(path), map(str, path.parent.glob('*.py')))}")


def _help() -> str:
    names = sorted(
        p.name for p in pathlib.Path(common.__file__).parent.glob("*.py") if p.stem not in ("__init__", "common")
    )
    keys = "\n".join(f"  --config.{key}={value}" for key, value in flatten(common.get_config()).items())
    return f"""Search a supernet, select an architecture from it by perturbation, and retrain it.

  python -m experiments.main --config=configs/NAME.py [--config.KEY=VALUE ...]

Configs: {", ".join(names)}
Some take an argument, as in --config=configs/table3.py:s2,svhn,darts_pt. Several seeds: python -m experiments.sweep --help

  --workdir=DIR  run directory (default: runs/NAME-seedSEED); the same command goes on where the last one stopped
  --plan         print stages, steps, images, memory and disk, and do nothing
  --distributed  this is one of several processes, one for each host, that jax finds (Slurm, Open MPI, GKE, TPU pods);
                 elsewhere: --coordinator=HOST:PORT --processes=N --process=I (docs/scaling.md)
  --help         print this

Most used:
  --config.data.path=FILE.npz              your own images
  --config.seed=1                          another seed
  --config.search.alpha=fixed              leave the alphas alone
  --config.select.method=magnitude         perturbation, magnitude_tuned, magnitude, random, sgas, sgas_perturbation
  --config.select.images=5000              score on so many images instead of the whole validation half
  --config.stages=select,report --config.init_from=RUN_DIR
                                           another selection from the supernet of a run, which is only read, or of
                                           the reference code's PyTorch checkpoint
  --config.stages=retrain,report           train what the run has chosen, or --config.genotype=NAME|FILE, from scratch
  --config.select.orders=4                 four selections in different orders of edges

Keys, with the defaults that a config begins from (configs/common.py says what they mean):

{keys}"""


def _refuse_unknown_keys(argv: Sequence[str], known: dict):
    for argument in filter(_is_override, argv):
        key = argument.lstrip("-").removeprefix("no").removeprefix("config.").partition("=")[0]
        if key in known:
            continue
        if section := [k for k in known if k.startswith(f"{key}.")]:
            raise ConfigError(f"{key} is a section: set one of its keys {', '.join(section)}")
        raise ConfigError(f"unknown key {key}: {nearest(key, known)}")

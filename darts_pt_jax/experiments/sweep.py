"""Several seeds of one config, and other selections from the same supernets or several architectures, in one table.

    python -m experiments.sweep --config=configs/nasbench201_c10_small.py --seeds=0-3 [--config.KEY=VALUE ...]
    python -m experiments.sweep --config=configs/retrain_c10.py --genotypes=DARTS_V2,runs/mine/genotype.json

Runs what is missing, continues what was interrupted, skips what is done, and goes past a run that fails. Each run
has a run directory in --workdir (default: runs/CONFIG-sweep): seed0, and for each selection beside it seed0-magnitude and
so on, from the supernet of seed0; or seed0-DARTS_V2 and so on. The same command again continues the sweep; --config may
then be left out, unless it is of architectures. Leaves table.md and table.json there, and the output of runs on slurm or
ray in seed0.log and so on.
"""

import argparse
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from darts_pt_jax.data.images import DataError
from darts_pt_jax.experiments import commands
from darts_pt_jax.experiments.config import settings
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.engine import execute, locks
from darts_pt_jax.experiments.engine.interrupts import Interrupts, exit_code
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.launching import launchers, scheduling, sweeps
from darts_pt_jax.experiments.launching.base import LauncherError
from darts_pt_jax.experiments.launching.launchers import LAUNCHERS
from darts_pt_jax.experiments.launching.sweeps import Sweep
from darts_pt_jax.experiments.reporting import table
from darts_pt_jax.interop import published

SET_HERE = ("config.seed", "config.search.seed", "config.retrain.seed", "config.init_from", "config.init_epoch")
"""Options that a sweep sets itself, or that would leave nothing to compare."""


def main(argv: Sequence[str], say: Callable[[str], None] = lambda text: print(text, flush=True)) -> int:
    """Carries out a sweep and returns the exit code: that of `experiments.main`, 1 if a run failed."""
    jax.config.update("jax_platforms", "cpu")  # the accelerator is for the runs
    return exit_code(lambda stop: _sweep(argv, stop, say))


def _sweep(argv: Sequence[str], stop: Interrupts, say: Callable[[str], None]) -> int:
    try:
        asked = parse(argv)
        todo = [(name, seed) for name, seed in asked.queue if not sweeps.finished(asked.commands[name][seed])]
        config = next(iter(asked.commands.values()))[asked.seeds[0]].config
        if todo and not config.data.download:  # what is wrong is said before any run
            execute.load_images(config)
        asked.workdir.mkdir(parents=True, exist_ok=True)
        with locks.locked(asked.workdir / "lock"):
            try:
                _carry_out(asked, todo, stop, say)
            finally:
                for one in asked.queue:
                    locks.discard(asked.run(*one).lock)
    except (ConfigError, DataError, LauncherError) as error:
        return commands.fail(error, 2)
    except (RunError, OSError) as error:
        return commands.fail(error, 1)
    return 0


def _carry_out(asked: Sweep, todo: Sequence[tuple[str, int]], stop: Interrupts, say: Callable[[str], None]):
    """Carries out the runs `todo`, and writes the table of all that are finished.

    Raises:
      RunError: some failed.
    """
    say(f"{len(asked.queue)} runs, {len(asked.queue) - len(todo)} of them done already")
    for name, reason in asked.left_out.items():
        say(f"not beside: {name}: {reason}")
    failed = {}
    if todo:
        launcher = launchers.launcher(asked.launcher, asked.options, asked.workdir, say)
        failed = scheduling.carry_out([asked.run(*one) for one in todo], launcher, asked.retries, stop, say)
    results = {name: {} for name in asked.commands}
    for name, seed in asked.queue:
        command = asked.commands[name][seed]
        if command.workdir not in failed:
            results[name][seed] = table.result(command.workdir, command.config)
    if any(results.values()):
        say(table.write(asked.workdir, results, asked.seeds, bool(asked.own)))
    if failed:
        named = ", ".join(f"{workdir} ({why})" for workdir, why in failed.items())
        raise RunError(f"{len(failed)} of {len(asked.queue)} runs failed: {named}: the same command tries them again")
    say(f"the table is in {asked.workdir / 'table.md'}")


def parse(argv: Sequence[str]) -> Sweep:
    """Reads the command line; nothing has run yet.

    Raises:
      ConfigError, LauncherError: it, or the command of a run, is wrong.
    """
    args, overrides = _arguments(argv)
    seeds = _seeds(args.seeds)
    if fixed := [a for a in overrides if a.lstrip("-").partition("=")[0] in SET_HERE]:
        raise ConfigError(f"{fixed[0]} is what the sweep sets itself: leave it out")
    genotypes = _genotypes(args.genotypes)
    given = [f"--config={args.config or _own_run(args.workdir, seeds[0])}", *overrides]
    first = settings.parse(["sweep", *given, *(f"--config.genotype={genotype}" for genotype in genotypes[:1])])
    genotypes = genotypes or [first.config.genotype] * bool(first.config.genotype)
    launching = _launching(args)  # a plugin may have added the launcher
    _check(first)
    workdir = pathlib.Path(args.workdir or str(first.workdir).removesuffix(f"-seed{first.config.seed}") + "-sweep")
    if genotypes:
        if args.beside:
            raise ConfigError(
                f"--beside is {args.beside!r}, but there is no selection beside a given genotype: leave it out"
            )
        return Sweep(workdir, seeds, None, sweeps.genotype_commands(given, genotypes, workdir, seeds), {}, *launching)
    beside = args.beside.split(",") if args.beside else None
    commands, left_out = sweeps.selection_commands(given, first, workdir, seeds, beside)
    return Sweep(workdir, seeds, first.config.select.method, commands, left_out, *launching)


def _own_run(workdir: str | None, seed: int) -> pathlib.Path:
    """The run of a sweep that has begun, whose config is that of the sweep."""
    run = pathlib.Path(workdir or "") / f"seed{seed}"
    if not workdir or not (run / "run.json").is_file():
        what = f"{run} holds no run" if workdir else "there is no --workdir"
        raise ConfigError(f"--config is missing: {what}: give a config file, such as --config=configs/quickstart.py")
    return run


def _seeds(text: str) -> list[int]:
    seeds = []
    for part in text.split(","):
        if not (ends := re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())):
            raise ConfigError(f"--seeds is {text!r}, expected whole numbers or ranges such as 0-3,7")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise ConfigError(f"--seeds is {text!r}, whose range {part} ends before it begins")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds is {text!r}, which names a seed twice")
    return seeds


def _genotypes(text: str | None) -> list[str]:
    genotypes = [] if text is None else text.split(",")
    for genotype in genotypes:
        try:
            published.find(genotype)
        except ValueError as error:
            raise ConfigError(f"--genotypes lists published names and files: {error}") from error
    return genotypes


def _check(first: Settings):
    """Refuses what a sweep cannot do with what its runs share."""
    config = first.config
    if first.plan or first.hosts:
        what = "--plan" if first.plan else "--distributed or --coordinator"
        raise ConfigError(f"a sweep has no {what}: give it to experiments.main with the same config")
    for section, what in {"search": "searches", "retrain": "retrainings of an architecture"}.items():
        if (seed := getattr(config, section).seed) != -1:
            raise ConfigError(f"{section}.seed is {seed} in the config, so that all {what} are one: set it to -1")
    if config.select.orders > 1:
        raise ConfigError(f"select.orders is {config.select.orders}, a sweep compares single selections: set it to 1")
    if "report" not in first.stages or (not {"search", "select"} <= set(first.stages) and not config.genotype):
        raise ConfigError(f"stages is {config.stages!r}, a sweep needs search, select and report, or a genotype")


def _launching(args: argparse.Namespace) -> tuple[str, dict[str, Any], int]:
    """Launcher, options and retries."""
    name, given = args.launcher, args.launcher_option
    if name not in LAUNCHERS:
        raise ConfigError(f"--launcher is {name!r}, expected one of {', '.join(LAUNCHERS)}")
    if given and not LAUNCHERS[name].takes:
        raise ConfigError(f"--launcher-option is {given[0]!r}, but --launcher={name} takes none: leave it out")
    if not args.retries.isdecimal():
        raise ConfigError(f"--retries is {args.retries!r}, expected a whole number such as 2")
    return name, launchers.options(given), int(args.retries)


def _arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = commands.parser("sweep", __doc__, allow_abbrev=False)
    add = parser.add_argument
    taken = f"as {commands.as_called('experiments.main')} takes it; default: that of the sweep in --workdir"
    add("--config", metavar="FILE[:ARGUMENT]|RUN_DIR", help=taken)
    add("--seeds", default="0-3", metavar="N|N-N,...", help="of the runs, each a number or a range (default: 0-3)")
    add("--workdir", help="default: runs/CONFIG-sweep")
    add(
        "--beside", metavar="METHOD,...",
        help="other select.methods to select by from the same supernets (default: magnitude and random where they can)",
    )  # fmt: skip
    add("--genotypes", metavar="NAME|FILE|FILE:NAME,...", help="retrain these, in place of what config.genotype names")
    about = "; ".join(f"{name}: {launcher.about}" for name, launcher in LAUNCHERS.items())
    same = "All machines have to see the run directories, this folder and this Python under the same paths"
    add("--launcher", default="local", metavar="NAME", help=f"{about}. {same}")
    takes = "; ".join(f"for {name} {launcher.takes}" for name, launcher in LAUNCHERS.items() if launcher.takes)
    several = f"{takes}. May be given several times"
    add("--launcher-option", action="append", default=[], metavar="KEY=VALUE", help=several)
    add(
        "--retries", default="2", metavar="N",
        help="how often to try again a run that was killed or failed, from its last checkpoint (default: 2)",
    )  # fmt: skip
    return parser.parse_known_args(argv)


if __name__ == "__main__":
    commands.start(main, sys.argv[1:])

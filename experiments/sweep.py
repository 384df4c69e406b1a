"""Several seeds of one config, and other selections from the same supernets or several architectures, in one table.

    python -m experiments.sweep --config=configs/nasbench201_c10_small.py --seeds=0,1,2,3 [--config.KEY=VALUE ...]
    python -m experiments.sweep --config=configs/retrain_c10.py --genotypes=DARTS_V2,runs/mine/genotype.json

Runs what is missing, goes on with what was interrupted, skips what is done, and goes past a run that fails. Every run is a
run directory in --workdir (default: runs/CONFIG-sweep): seed0, and for each selection beside it seed0-magnitude and so
on, from the supernet of seed0; or seed0-DARTS_V2 and so on. The same command again goes on. Leaves table.md and
table.json there, and the output of runs that slurm or ray has carried out in seed0.log and so on.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from darts_pt_jax import record
from darts_pt_jax.data.images import DataError
from darts_pt_jax.interop import published
from darts_pt_jax.record import RecordError
from experiments.config import settings
from experiments.config.settings import Settings
from experiments.engine import execute, locks
from experiments.engine.interrupts import Interrupts, exit_code
from experiments.errors import ConfigError, RunError
from experiments.launching import launchers
from experiments.launching.launchers import LauncherError
from experiments.reporting import measures
from experiments.reporting.markdown import table_head, table_row
from experiments.reporting.records import RunRecords
from experiments.stages.pipeline import pipeline

BESIDE = ("magnitude", "random")


OWN = ("config.seed", "config.search.seed", "config.retrain.seed", "config.init_from", "config.init_epoch")
"""Options that a sweep sets itself, or that leave nothing to compare."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What one sweep asks for.

    Attributes:
      workdir: where its runs and its table are.
      seeds: in the order given.
      own: the config's select.method, from whose supernets the others select; None where architectures are given.
      commands: by selection or architecture, and seed; the config's own first.
      left_out: selections that are beside by default, but not here, with the reason.
      launcher: what carries the runs out, one of `launchers.LAUNCHERS`.
      options: what it is told.
      retries: how often a run that was killed or failed is tried again.
    """

    workdir: pathlib.Path
    seeds: list[int]
    own: str | None
    commands: dict[str, dict[int, Settings]]
    left_out: dict[str, str]
    launcher: str
    options: dict[str, Any]
    retries: int


def parse(argv: Sequence[str]) -> Sweep:
    """Reads the command line; nothing has run yet.

    Raises:
      ConfigError, LauncherError: it, or the command of a run, is wrong.
    """
    args, overrides = _arguments(argv)
    try:
        seeds = [int(seed) for seed in args.seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds is {args.seeds!r}, expected whole numbers such as 0,1,2,3") from None
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds is {args.seeds!r}, which names a seed twice")
    how = _launching(args)
    if fixed := [a for a in overrides if a.lstrip("-").partition("=")[0] in OWN]:
        raise ConfigError(f"{fixed[0]} is what the sweep sets itself: leave it out")
    given = args.genotypes.split(",") if args.genotypes is not None else []
    for genotype in given:
        try:
            published.find(genotype)
        except ValueError as error:
            raise ConfigError(f"--genotypes lists published names and files: {error}") from error
    first = settings.parse(
        ["sweep", f"--config={args.config}", *overrides, *(f"--config.genotype={g}" for g in given[:1])]
    )
    given = given or [first.config.genotype] * bool(first.config.genotype)
    if first.plan or first.hosts:
        what = "--plan" if first.plan else "--distributed or --coordinator"
        raise ConfigError(f"a sweep has no {what}: give it to experiments.main with the same config")
    for section, what in {"search": "searches", "retrain": "retrainings of an architecture"}.items():
        if (seed := getattr(first.config, section).seed) != -1:
            raise ConfigError(f"{section}.seed is {seed} in the config, so that all {what} are one: set it to -1")
    if first.config.select.orders > 1:
        raise ConfigError(
            f"select.orders is {first.config.select.orders}, a sweep compares single selections: set it to 1"
        )
    if "report" not in first.stages or (not {"search", "select"} <= set(first.stages) and not first.config.genotype):
        raise ConfigError(f"stages is {first.config.stages!r}, a sweep needs search, select and report, or a genotype")
    workdir = pathlib.Path(args.workdir or str(first.workdir).removesuffix(f"-seed{first.config.seed}") + "-sweep")
    if given:
        return Sweep(workdir, seeds, None, _of_genotypes(args, overrides, workdir, seeds, given), {}, *how)
    own, left_out = first.config.select.method, {}
    commands = {own: {}}
    for seed in seeds:
        place = [f"--config={args.config}", *overrides, f"--config.seed={seed}"]
        commands[own][seed] = settings.parse(["sweep", *place, f"--workdir={workdir / f'seed{seed}'}"])
        for method in args.beside.split(",") if args.beside else BESIDE:
            more = [
                f"--workdir={workdir / f'seed{seed}-{method}'}", f"--config.init_from={workdir / f'seed{seed}'}",
                f"--config.stages={','.join(s for s in first.stages if s != 'search')}", f"--config.select.method={method}",
            ]  # fmt: skip
            try:
                if method != own:
                    commands.setdefault(method, {})[seed] = settings.parse(["sweep", *place, *more])
            except ConfigError as error:
                if args.beside:
                    raise
                left_out[method] = str(error)
    return Sweep(workdir, seeds, own, {m: of_seeds for m, of_seeds in commands.items() if of_seeds}, left_out, *how)


def _of_genotypes(
    args: argparse.Namespace, overrides: list[str], workdir: pathlib.Path, seeds: list[int], given: list[str]
) -> dict[str, dict[int, Settings]]:
    """The commands that retrain the given architectures."""
    if args.beside:
        raise ConfigError(
            f"--beside is {args.beside!r}, but there is no selection beside a given genotype: leave it out"
        )
    places = [_place(genotype) for genotype in given]
    if len(set(places)) < len(places):
        raise ConfigError(f"--genotypes is {args.genotypes!r}, of which two would share a run directory")
    return {
        genotype: {
            seed: settings.parse(["sweep", f"--config={args.config}", *overrides, f"--config.genotype={genotype}",
                                  f"--config.seed={seed}", f"--workdir={workdir / f'seed{seed}-{place}'}"])
            for seed in seeds
        }
        for genotype, place in zip(given, places, strict=True)
    }  # fmt: skip


def _launching(args: argparse.Namespace) -> tuple[str, dict[str, Any], int]:
    """Launcher, options and retries."""
    if args.launcher not in launchers.LAUNCHERS:
        raise ConfigError(f"--launcher is {args.launcher!r}, expected one of {', '.join(launchers.LAUNCHERS)}")
    if args.launcher == "local" and args.launcher_option:
        raise ConfigError(
            f"--launcher-option is {args.launcher_option[0]!r}, but --launcher=local takes none: leave it out"
        )
    if not args.retries.isdecimal():
        raise ConfigError(f"--retries is {args.retries!r}, expected a whole number such as 2")
    return args.launcher, launchers.options(args.launcher_option), int(args.retries)


def _place(genotype: str) -> str:
    """A name for a folder."""
    name = re.sub(r"[^\w.-]+", "_", genotype).strip("_")
    return name if len(name) <= 100 else f"{name[:90]}_{zlib.crc32(genotype.encode()):08x}"


def _arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="as experiments.main takes it")
    parser.add_argument("--seeds", default="0,1,2,3", metavar="N,N,...", help="of the runs (default: 0,1,2,3)")
    parser.add_argument("--workdir", help="default: runs/CONFIG-sweep")
    parser.add_argument(
        "--beside", metavar="METHOD,...",
        help="other select.methods to select by from the same supernets (default: magnitude and random where they can)",
    )  # fmt: skip
    parser.add_argument(
        "--genotypes", metavar="NAME|FILE,...", help="retrains these, in place of what config.genotype names"
    )
    parser.add_argument(
        "--launcher", default="local", metavar="NAME",
        help="local: one run after the other on this machine (the default); slurm: every run is a job of Slurm, by "
        "submitit; ray: a task of Ray. All machines have to see the run directories, this folder and this Python under "
        "the same paths",
    )  # fmt: skip
    parser.add_argument(
        "--launcher-option", action="append", default=[], metavar="KEY=VALUE",
        help="for slurm a parameter of submitit's AutoExecutor (slurm_partition=gpu, gpus_per_node=1, timeout_min=240), or "
        "cluster=local: processes of this machine, all at once, in place of jobs; for ray an option of ray.remote "
        "(num_cpus=4, num_gpus=1), or address=HOST:PORT of a Ray that runs. May be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--retries", default="2", metavar="N",
        help="how often a run that was killed or failed is tried again, from its last checkpoint (default: 2)",
    )  # fmt: skip
    return parser.parse_known_args(argv)


def finished(command: Settings) -> bool:
    """Whether a command has nothing left to do.

    Raises:
      ConfigError: its run directory is of another config.
    """
    units = pipeline(command.config)
    try:
        _, done = execute.progress(command, units)
    except (RunError, RecordError):  # the run itself says what is wrong with it
        return False
    return done >= execute.goal(command, units, done) and (command.workdir / "report.md").exists()


def _result(command: Settings) -> dict:
    """What the table says of a finished run."""
    records = RunRecords.read(command.workdir, command.config)
    genotype = (command.workdir / "genotype.txt").read_text().strip()
    return {"values": measures.measure(command.config, records), "genotype": genotype}


def write_table(asked: Sweep, results: dict[str, dict[int, dict]]) -> str:
    """Writes table.json and table.md; returns the latter."""
    seeds, by, kind = asked.seeds, "by " * bool(asked.own), "selection" if asked.own else "architecture"
    record.write_text(asked.workdir / "table.json", json.dumps(results, indent=1) + "\n")
    lines = table_head("", kind, *(f"seed {s}" for s in seeds), "mean", "standard deviation", "best")
    names = dict.fromkeys(name for of_seeds in results.values() for r in of_seeds.values() for name in r["values"])
    for name in names:
        for method, of_seeds in results.items():
            known = {s: r["values"][name] for s, r in of_seeds.items() if name in r["values"]}
            numbers = list(known.values())
            cells = [measures.number(known[s]) if s in known else "missing" for s in seeds]
            mean, spread = measures.spread(numbers)
            mean, spread = (f"{mean:.4g}" if numbers else "", f"{spread:.2g}" if len(numbers) > 1 else "")
            best = f"{max(numbers):.4g}" if numbers and name.endswith("%") else ""
            lines.append(table_row(name, by + method, *cells, mean, spread, best))
    for method, of_seeds in results.items():
        for seed, result in of_seeds.items():
            lines += ["", f"{by.capitalize()}{method}, seed {seed}:", "", "```", result["genotype"], "```"]
    text = "\n".join(lines) + "\n"
    record.write_text(asked.workdir / "table.md", text)
    return text


def main(argv: Sequence[str], say: Callable[[str], None] = lambda text: print(text, flush=True)) -> int:
    """Carries out a sweep and returns the exit code: that of `experiments.main`, 1 if a run failed."""
    jax.config.update("jax_platforms", "cpu")  # the accelerator is for the runs
    return exit_code(lambda stop: _sweep(argv, stop, say))


def _sweep(argv: Sequence[str], stop: Interrupts, say) -> int:
    try:
        asked = parse(argv)
        queue = [(method, seed) for seed in asked.seeds for method in asked.commands]
        todo = [(method, seed) for method, seed in queue if not finished(asked.commands[method][seed])]
        config = next(iter(asked.commands.values()))[asked.seeds[0]].config
        if todo and not config.data.download:  # what is wrong is said before any run
            execute.load_images(config)
        asked.workdir.mkdir(parents=True, exist_ok=True)
        with locks.locked(asked.workdir / "lock"):
            return _carry_out(asked, queue, todo, stop, say)
    except (ConfigError, DataError, LauncherError) as error:
        return settings.fail(error, 2)
    except (RunError, OSError) as error:
        return settings.fail(error, 1)


def _carry_out(
    asked: Sweep, queue: Sequence[tuple[str, int]], todo: Sequence[tuple[str, int]], stop: Interrupts, say
) -> int:
    say(f"{len(queue)} runs, {len(queue) - len(todo)} of them done already")
    for method, reason in asked.left_out.items():
        say(f"not beside: {method}: {reason}")
    runs = [_run(asked, method, seed) for method, seed in todo]
    failed = {}
    if runs:
        launcher = launchers.launcher(asked.launcher, asked.options, asked.workdir, say)
        failed = launchers.carry_out(runs, launcher, asked.retries, stop, say)
    results = {method: {} for method in asked.commands}
    for method, seed in queue:
        if asked.commands[method][seed].workdir not in failed:
            results[method][seed] = _result(asked.commands[method][seed])
    if any(results.values()):
        say(write_table(asked, results))
    if failed:
        named = ", ".join(f"{workdir} ({why})" for workdir, why in failed.items())
        raise RunError(f"{len(failed)} of {len(queue)} runs failed: {named}: the same command tries them again")
    say(f"the table is in {asked.workdir / 'table.md'}")
    return 0


def _run(asked: Sweep, method: str, seed: int) -> launchers.Run:
    """One command of the sweep, for a launcher."""
    command = asked.commands[method][seed]
    needs = asked.commands[asked.own][seed].workdir if asked.own and method != asked.own else None
    return launchers.Run(command.workdir, (sys.executable, "-m", "experiments.main", *command.argv), needs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

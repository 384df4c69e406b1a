"""What a sweep consists of: the command of each of its runs, and which of them are done."""

import dataclasses
import pathlib
import re
import sys
import zlib
from collections.abc import Sequence
from typing import Any

from darts_pt_jax.experiments.config import rules, settings
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.engine import execute
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.launching.base import Run
from darts_pt_jax.experiments.stages.pipeline import pipeline
from darts_pt_jax.record import RecordError
from darts_pt_jax.selection.methods import METHODS

BESIDE = ("magnitude", "random")
"""Selections that are compared with the config's own unless others are named."""

Commands = dict[str, dict[int, Settings]]
"""The commands by selection or architecture, and seed."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What one sweep asks for.

    Attributes:
      workdir: where its runs and its table are.
      seeds: in the order given.
      own: the config's select.method, from whose supernets the others select; None where architectures are given.
      commands: by selection or architecture, and seed; the config's own first.
      left_out: the reasons why selections that are compared by default are not, by selection.
      launcher: what carries the runs out, one of `launchers.LAUNCHERS`.
      options: the launcher's.
      retries: how often a run that was killed or failed is tried again.
    """

    workdir: pathlib.Path
    seeds: list[int]
    own: str | None
    commands: Commands
    left_out: dict[str, str]
    launcher: str
    options: dict[str, Any]
    retries: int

    @property
    def queue(self) -> list[tuple[str, int]]:
        """Selection or architecture, and seed, of each run, in order."""
        return [(name, seed) for seed in self.seeds for name in self.commands]

    def run(self, name: str, seed: int) -> Run:
        """One run, for a launcher."""
        command = self.commands[name][seed]
        needs = self.commands[self.own][seed].workdir if self.own and name != self.own else None
        return Run(command.workdir, (sys.executable, "-m", "darts_pt_jax.experiments.main", *command.argv), needs)


def selection_commands(
    given: Sequence[str], first: Settings, workdir: pathlib.Path, seeds: Sequence[int], beside: Sequence[str] | None
) -> tuple[Commands, dict[str, str]]:
    """The commands of the config's own selection, and of others from the same supernets.

    Args:
      given: the arguments that all runs share.
      first: what they say.
      workdir: the directory of the sweep.
      seeds: of the runs.
      beside: the other selections; None: those of `BESIDE` that can.

    Returns:
      The commands, and the reasons why some of `BESIDE` are left out.

    Raises:
      ConfigError: a command is wrong.
    """
    own, left_out = first.config.select.method, {}
    stages = ",".join(stage for stage in first.stages if stage != "search")
    commands = {own: {}}
    for seed in seeds:
        with_seed, place = [*given, f"--config.seed={seed}"], workdir / f"seed{seed}"
        commands[own][seed] = settings.parse(["sweep", *with_seed, f"--workdir={place}"])
        for method in BESIDE if beside is None else beside:
            if method == own:
                continue
            keys = {"init_from": place, "stages": stages, "select.method": method}
            if method in METHODS and not METHODS[method].scores:
                keys |= rules.unscored(first.config)
            if method in METHODS and METHODS[method].at_random and first.config.select.top > 1:
                keys["select.top"] = 1  # choices at random have no margins
            options = [f"--config.{key}={value}" for key, value in keys.items()]
            try:
                command = settings.parse(["sweep", *with_seed, f"--workdir={place}-{method}", *options])
            except ConfigError as error:
                if beside is not None:
                    raise
                left_out[method] = str(error)
            else:
                commands.setdefault(method, {})[seed] = command
    return commands, left_out


def genotype_commands(
    given: Sequence[str], genotypes: Sequence[str], workdir: pathlib.Path, seeds: Sequence[int]
) -> Commands:
    """The commands that retrain `genotypes`; `given` are the arguments that all runs share.

    Raises:
      ConfigError: a command is wrong, or two genotypes would share a run directory.
    """
    places = [_folder(genotype) for genotype in genotypes]
    if len(set(places)) < len(places):
        raise ConfigError(f"--genotypes is {','.join(genotypes)!r}, of which two would share a run directory")
    commands = {}
    for genotype, place in zip(genotypes, places, strict=True):
        commands[genotype] = {}
        for seed in seeds:
            options = [f"--config.genotype={genotype}", f"--config.seed={seed}"]
            options.append(f"--workdir={workdir / f'seed{seed}-{place}'}")
            commands[genotype][seed] = settings.parse(["sweep", *given, *options])
    return commands


def _folder(genotype: str) -> str:
    """A name for a folder."""
    name = re.sub(r"[^\w.-]+", "_", genotype).strip("_")
    return name if len(name) <= 100 else f"{name[:90]}_{zlib.crc32(genotype.encode()):08x}"


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

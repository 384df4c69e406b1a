"""Reads what a run directory says of its run, also while it runs.

Nothing here writes, locks, looks at images, or imports jax.
"""

import dataclasses
import json
import pathlib

import numpy as np

from darts_pt_jax import record, spaces
from darts_pt_jax.experiments import commands
from darts_pt_jax.experiments.config import plugins, schema
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.config.stored import read_run
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.lines import end_of_search, genotype_name
from darts_pt_jax.genotype import Genotype, genotype_of
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES, SearchSpace


@dataclasses.dataclass(frozen=True)
class RunRecords:
    """The records of one run.

    Attributes:
      metrics, decisions, timings: lines of the files of these names.
      genotypes: the architecture of each finished order.
      run: the content of run.json.
      retrained: the content of retrained.json, or None.
      networks: the content of networks.json: what stage `report` has measured of each architecture; or nothing.
      alternatives: the content of alternatives.json: the architectures next to the choice; or nothing.
    """

    metrics: list[dict]
    decisions: list[dict]
    timings: list[dict]
    genotypes: list[Genotype]
    run: dict
    retrained: dict | None
    networks: list[dict] = dataclasses.field(default_factory=list)
    alternatives: list[dict] = dataclasses.field(default_factory=list)

    @classmethod
    def read(cls, workdir: pathlib.Path, config: Config, finished: bool = True) -> "RunRecords":
        """Reads a run directory; a last line that is still being written is left out.

        Args:
          workdir: the run directory.
          config: its config.
          finished: whether every architecture must be there.

        Raises:
          ConfigError: it is not a run directory.
          RecordError, RunError, ValueError: a file is damaged.
        """
        lines = {n: record.JsonLines(workdir / f"{n}.jsonl").read() for n in ("metrics", "decisions", "timings")}
        orders = range(1 if config.genotype else config.select.orders)
        there = [n for n in orders if finished or (workdir / f"{genotype_name(n)}.json").exists()]
        genotypes = [read_genotype(workdir, order) for order in there]
        files = {name: workdir / f"{name}.json" for name in ("retrained", "networks", "alternatives")}
        found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
        found = {"retrained": None, **found}
        return cls(**lines, genotypes=genotypes, run=read_run(workdir), **found)

    def stage(self, stage: str) -> list[dict]:
        """The lines of metrics.jsonl that a stage wrote."""
        return [m for m in self.metrics if m["stage"] == stage]

    def architectures(self, config: Config) -> dict[str, Genotype]:
        """The architectures by the method that chose them, and what magnitude would have chosen."""
        select = config.select
        if config.genotype:
            return dict(zip(["given"], self.genotypes, strict=False))
        names = [select.method]
        if select.orders > 1:
            names = [f"{select.method}, order {order}" for order in range(1, select.orders + 1)]
        found = dict(zip(names, self.genotypes, strict=False))
        if found and self.stage("search") and learns_alphas(config) and select.method != "magnitude":
            found["magnitude"] = magnitude_genotype(SPACES[config.space], end_of_search(self.metrics)["edge_weights"])
        return found

    def phases(self) -> dict[str, np.ndarray]:
        """Seconds, seconds of them compiling, and images, float64 [3], of each kind of unit."""
        phases = {}
        for line in self.timings:
            sums = phases.setdefault(f"{line['stage']} {line['type']}", np.zeros(3))
            sums += line["seconds"], line["compile_seconds"], line["images"]
        return {name: sums for name, sums in phases.items() if sums[0] >= 0.5 or sums[2]}


def read_genotype(workdir: pathlib.Path, order: int = 0) -> Genotype:
    """The architecture of an order (from 0), as the run wrote it.

    Raises:
      OSError, ValueError: it is not there, or damaged.
    """
    return Genotype.from_json((workdir / f"{genotype_name(order)}.json").read_text())


def config_of(run: dict) -> Config:
    """The config in the content of run.json, its plugins imported; keys that are newer than the run have their defaults.

    Raises:
      ConfigError: a plugin is missing or fails, or a table lacks a name such as that of the space.
    """
    config = schema.from_flat(run["config"])
    config = config.changed({"plugins": plugins.load(config.plugins)})
    for name, value in schema.not_default(config).items():  # whose tables alone are imported
        key = schema.KEYS[name]
        if key.rule.tables and not key.rule.holds(value):
            raise ConfigError(
                f"{name} is {value!r}, expected {key.rule.expected()}: it is defined elsewhere: name the file that "
                "defines it by --config.plugins=FILE"
            )
    return config


def learns_alphas(config: Config) -> bool:
    """Whether the search trains the alphas; only a sampler other than darts needs an import of jax for that."""
    search = config.search
    if search.alpha == "fixed" or search.sampler == "darts":
        return search.alpha == "learned"
    from darts_pt_jax.samplers import make_sampler

    return make_sampler(search.sampler, vars(search)).learns


def command(records: RunRecords) -> list[str]:
    """The arguments of a command that makes such a run: all stages that it has begun, from configs/common.py."""
    config, begun = schema.from_flat(records.run["config"]), {m["stage"] for m in records.metrics}
    if config.init_from:
        begun -= {"search"}  # these lines come from the run that trained the supernet
    begun |= set(config.stages.split(","))
    config = config.changed({"stages": ",".join(stage for stage in schema.STAGES if stage in begun)})
    values = {key: schema.value(config, key) for key in schema.not_default(config)}
    options = [f"--config.{key}={value}" for key, value in values.items()]
    return [*commands.as_called("python -m experiments.main").split(), "--config=configs/common.py", *options]


def magnitude_genotype(space: SearchSpace, edge_weights: dict) -> Genotype:
    """The architecture that magnitude selects from recorded edge weights (lists by cell kind)."""
    weights = spaces.from_lists(edge_weights, space)
    return genotype_of(space, *direct.magnitude(space, weights, np.random.RandomState(0)))

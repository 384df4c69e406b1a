"""What a run directory tells of its run, also while the run goes on: nothing here writes, locks, or looks at images."""

import dataclasses
import json
import pathlib

import numpy as np

from darts_pt_jax import architecture, nasbench201, record
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES, SearchSpace
from experiments.config import plugins
from experiments.config.schema import STAGES, Config, from_flat, not_default
from experiments.config.versions import refuse_newer
from experiments.errors import ConfigError, RunError
from experiments.stages.lines import end_of_search, genotype_name


@dataclasses.dataclass(frozen=True)
class Records:
    """What a run has recorded.

    Attributes:
      metrics, decisions, timings: lines of the files of these names.
      genotypes: the architecture of every order that is finished.
      run: what run.json says.
      retrained: what retrained.json says, or None.
    """

    metrics: list[dict]
    decisions: list[dict]
    timings: list[dict]
    genotypes: list[Genotype]
    run: dict
    retrained: dict | None

    @classmethod
    def read(cls, workdir: pathlib.Path, config: Config, finished: bool = True) -> "Records":
        """Reads them from a run directory; of a file that grows, the whole lines.

        Args:
          workdir: the run directory.
          config: its config.
          finished: whether every architecture has to be there.

        Raises:
          ConfigError: it is none.
          RecordError, RunError, ValueError: a file is damaged.
        """
        lines = {n: record.JsonLines(workdir / f"{n}.jsonl").read() for n in ("metrics", "decisions", "timings")}
        orders = range(1 if config.genotype else config.select.orders)
        files = [workdir / f"{genotype_name(order)}.json" for order in orders]
        genotypes = [Genotype.from_json(file.read_text()) for file in files if finished or file.exists()]
        retrained = workdir / "retrained.json"
        result = json.loads(retrained.read_text()) if retrained.exists() else None
        return cls(**lines, genotypes=genotypes, run=of_run(workdir), retrained=result)

    def of(self, stage: str) -> list[dict]:
        """The lines of metrics.jsonl of a stage."""
        return [m for m in self.metrics if m["stage"] == stage]

    def names(self, config: Config) -> dict[str, Genotype]:
        """The architectures by what they were chosen by, and what magnitude would have chosen."""
        select = config.select
        if config.genotype:
            return dict(zip(["given"], self.genotypes, strict=False))
        names = [select.method] if select.orders == 1 else [f"{select.method}, order {n + 1}" for n in range(select.orders)]  # fmt: skip
        found = dict(zip(names, self.genotypes, strict=False))
        if found and self.of("search") and config.search.alpha == "learned" and select.method != "magnitude":
            found["magnitude"] = by_magnitude(SPACES[config.space], end_of_search(self.metrics)["edge_weights"])
        return found

    def phases(self) -> dict[str, np.ndarray]:
        """Seconds, seconds of them compiling, and images of every kind of unit."""
        phases = {}
        for line in self.timings:
            sums = phases.setdefault(f"{line['stage']} {line['type']}", np.zeros(3))
            sums += line["seconds"], line["compile_seconds"], line["images"]
        return {name: sums for name, sums in phases.items() if sums[0] >= 0.5 or sums[2]}


def of_run(workdir: pathlib.Path) -> dict:
    """What run.json says; one of an earlier version, which carried no digest of itself, is taken as it is.

    Raises:
      ConfigError: there is none, so that this is no run directory, or it is of a newer format.
      RunError: it is damaged.
    """
    file = workdir / "run.json"
    if not file.is_file():
        raise ConfigError(f"{workdir}: not a run directory: it has no run.json")
    text = file.read_bytes()
    try:
        content = json.loads(text)
        content = record.unsealed(text) if "sha256" in content else dict(content)
        if not isinstance(content.get("config"), dict):
            raise ValueError("it names no config")
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{file} is damaged ({error}): put it back") from error
    refuse_newer(content, file)
    return content


def config_of(run: dict) -> Config:
    """The config in what run.json says, with its plugins imported; keys that it lacks have their defaults.

    Raises:
      ConfigError: a plugin is missing or fails, or its space is not among `SPACES`.
    """
    config = from_flat(run["config"], strict=False)
    config = config.changed({"plugins": plugins.load(config.plugins)})
    if config.space not in SPACES:
        raise ConfigError(
            f"space is {config.space!r}, expected one of {', '.join(SPACES)}: it is defined elsewhere: name the file that "
            "defines it by --config.plugins=FILE"
        )
    return config


def changed(run: dict) -> dict:
    """The keys of a run's config that differ from the defaults, with their values."""
    return not_default(from_flat(run["config"], strict=False))


def command(records: Records) -> list[str]:
    """The arguments of a command that makes such a run, of all stages that the run has begun."""
    values, begun = changed(records.run), {m["stage"] for m in records.metrics}
    if "init_from" in values:
        begun -= {"search"}
    begun |= set(records.run["config"]["stages"].split(","))
    values["stages"] = ",".join(stage for stage in STAGES if stage in begun)
    if values["stages"] == Config().stages:
        del values["stages"]
    options = [f"--config.{key}={tuple(value) if isinstance(value, list) else value}" for key, value in values.items()]
    return ["python", "-m", "experiments.main", "--config=configs/common.py", *options]


def by_magnitude(space: SearchSpace, edge_weights: dict) -> Genotype:
    """The architecture that magnitude selection reads off the recorded edge weights (lists by cell kind)."""
    weights = architecture.from_lists(edge_weights, space)
    return direct.magnitude(space, weights, np.random.RandomState(0)).genotype(space)


def benchmark(path: str, genotypes: dict[str, Genotype]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: what NAS-Bench-201 says of architectures, and of random choice.

    Raises:
      TableError: the file is no table of it, or lacks an architecture.
    """
    table, names = nasbench201.Table(path), nasbench201.SUMMARY
    rows = []
    for method, genotype in genotypes.items():
        arch = genotype.text("nasbench201")
        row = table.accuracies(arch)
        label = "given" if method == "given" else f"by {method}"
        rows.append([label, *(f"{row[n]:.2f}" for n in names), str(table.rank(arch))])
    of = {name: table.random_choice(name) for name in names}
    for label in of[names[0]]:
        rows.append([f"random choice: {label}", *(f"{values[label]:.2f}" for values in of.values()), ""])
    return ["architecture", *names, f"rank of {len(table):,}"], rows

"""The subject of an analysis: a finished search, which is only read."""

import functools
import pathlib
import types
from collections.abc import Hashable, Iterator, Mapping, Sequence

import jax
import numpy as np

from darts_pt_jax import nasbench201, record
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.data.images import Images
from darts_pt_jax.experiments.analysis.measured import Measured
from darts_pt_jax.experiments.config.rules import check
from darts_pt_jax.experiments.config.schema import Config, compared, seed_of, varying
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.config.stored import read_run
from darts_pt_jax.experiments.engine import execute
from darts_pt_jax.experiments.engine.interrupts import Interrupts
from darts_pt_jax.experiments.engine.sources import Source
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.reporting.lines import ended
from darts_pt_jax.experiments.reporting.records import config_of, learns_alphas
from darts_pt_jax.experiments.stages.pipeline import pipeline
from darts_pt_jax.experiments.training.supernet import Training
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.loops import Loop
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.spaces import SPACES

Options = types.SimpleNamespace
"""The values of an analysis' options, by name."""


def opened(runs: Sequence[pathlib.Path], keys: dict, out: pathlib.Path, stop: Interrupts) -> list["Subject"]:
    """The runs of one analysis; of several, each has a folder of its own in `out`.

    Raises:
      ConfigError: a run cannot be opened; or of several, two have one name or one seed, or they differ otherwise.
    """
    places = [out / run.name for run in runs] if len(runs) > 1 else [out]
    if len(set(places)) < len(places):
        raise ConfigError("--run names two runs of one name, under which their results are kept: rename one")
    subjects = [Subject(run, keys, place, stop) for run, place in zip(runs, places, strict=True)]
    first = subjects[0]
    for subject in subjects[1:]:
        differs = varying([first.config, subject.config], compared())
        if subject.data_sha256 != first.data_sha256:
            differs.append("the images")
        if differs:
            raise ConfigError(
                f"--run {subject.directory}: differs from {first.directory} in {', '.join(differs)}: the runs of this "
                "analysis may differ in their seeds only"
            )
    refuse_repeated({subject.directory: subject.seed for subject in subjects})
    return subjects


def refuse_repeated(searches: Mapping[pathlib.Path, Hashable]):
    """Refuses runs of one search, which would count twice; `searches` has what identifies each run's search.

    Raises:
      ConfigError: two are equal.
    """
    seen = {}
    for run, search in searches.items():
        if search in seen:
            raise ConfigError(f"--run {run}: the same search as {seen[search]}: name one of them")
        seen[search] = run


def title_of(subjects: Sequence["Subject"]) -> str:
    """What figures call the runs."""
    if not subjects:
        return ""
    seeds = ", ".join(str(subject.seed) for subject in subjects)
    if len(subjects) == 1:
        return f"{subjects[0].about}, seed {seeds}"
    return f"{subjects[0].about}; mean and range of seeds {seeds}"


class _Checked(Loop):
    """A loop that raises at its end if the loss is not finite."""

    def __init__(self, name: str, *args):
        super().__init__(name, *args)
        self._name = name

    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()
        if not np.isfinite(self.total.loss):
            raise RunError(f"{self._name}: the loss is not finite: lower select.tune_lr_factor, or look at the data")


class Subject:
    """A run whose search is finished.

    Attributes:
      directory: the run directory.
      config: its config.
      space: its search space.
      metrics: its lines of metrics.jsonl.
      out: the directory of the analysis.
      stop: the signals that may interrupt.
    """

    def __init__(self, workdir: pathlib.Path, keys: dict, out: pathlib.Path, stop: Interrupts):
        """Opens a run; `keys` replaces values of its config that do not change the search, such as data.path.

        Raises:
          ConfigError: it is not a run directory, or its search is not finished.
        """
        self.directory, self.out, self.stop, self._run = workdir, out, stop, read_run(workdir)
        self.config = config_of(self._run)
        if self.config.genotype:
            raise ConfigError(f"--run {workdir}: it retrains a given architecture, and has no search")
        self.config = self.config.changed(keys)
        check(self.config)
        self.space = SPACES[self.config.space]
        self.metrics = record.JsonLines(workdir / "metrics.jsonl").read()
        if not (ended(self.config, self.searched) or (self.searched and self.config.init_from)):
            done = self.searched[-1]["epoch"] if self.searched else 0
            raise ConfigError(
                f"--run {workdir}: {done} of {self.config.search.epochs} epochs are searched: let it finish"
            )

    @property
    def about(self) -> str:
        """What figures call the run, without its seed."""
        alphas = "" if learns_alphas(self.config) else ", alphas fixed"
        return f"{self.config.space}, {self.config.search.epochs} epochs{alphas}"

    @property
    def data_sha256(self) -> str:
        """The fingerprint of the run's images."""
        return self._run["data_sha256"]

    @property
    def seed(self) -> int:
        """The seed of the search."""
        return seed_of(self.config, "search")

    @property
    def searched(self) -> list[dict]:
        """The lines of metrics.jsonl of the search's epochs."""
        return [m for m in self.metrics if m["stage"] == "search"]

    def recorded(self, *names: str) -> list[dict]:
        """The lines of the search's epochs that have all of `names`; ask before any work.

        Raises:
          ConfigError: there are none.
        """
        lines = [m for m in self.searched if all(name in m for name in names)]
        if not lines:
            missing = [name for name in names if not any(name in m for m in self.searched)] or names
            raise ConfigError(
                f"--run {self.directory}: the records of its search have no {' with '.join(missing)}: take the run that "
                "searched, and validated (eval.every) at an epoch that this one has"
            )
        return lines

    def require_alphas(self):
        """Refuses a run whose alphas do not learn.

        Raises:
          ConfigError: they do not.
        """
        if not learns_alphas(self.config):
            raise ConfigError(
                f"--run {self.directory}: its alphas are fixed, so that they say nothing: take another run"
            )

    @functools.cached_property
    def source(self) -> Source:
        """The newest supernet of the search."""
        return self.supernet(0)

    @property
    def kept(self) -> list[int]:
        """The epochs whose supernets are kept; of a stopped search, also the epoch that it returned to."""
        return [epoch for epoch in self.source.kept if epoch in {m["epoch"] for m in self.searched}]

    def supernet(self, epoch: int) -> Source:
        """The supernet after a search epoch; 0: the last one kept.

        Raises:
          ConfigError: it is not there.
        """
        return Source(Settings(self._selecting(epoch), self.out, False, None, ()))

    def _selecting(self, epoch: int, **keys) -> Config:
        """The config of a selection from this run's supernet, checked."""
        taken = {"init_from": str(self.directory), "init_epoch": epoch, "stages": "select", "select.orders": 1}
        taken |= {"report.nasbench201": "", "devices": 1}
        config = self.config.changed(taken | keys)
        check(config)
        return config

    @functools.cached_property
    def images(self) -> Images:
        """The run's images.

        Raises:
          ConfigError, DataError: they are not there, or are others.
        """
        images = execute.load_images(self.config)
        if images.fingerprint() != self.data_sha256:
            raise ConfigError(f"data: the images are not those of {self.directory} (SHA-256 differs)")
        return images

    def measured(self, **asked) -> Measured:
        """The values that this analysis has measured of this run with its options `asked`.

        Raises:
          ConfigError: `out` holds an analysis with other options, or of another run.
        """
        return Measured(self.out, {"supernet": self.source.digest, **asked})

    @functools.cached_property
    def training(self) -> Training:
        """The supernet with its data."""
        return Training(self.config, self.images)

    @functools.cached_property
    def state(self) -> SearchState:
        """The supernet as the search left it."""
        return self.source.state(self.training.abstract_state())

    def key(self, purpose: int) -> jax.Array:
        """The root of an analysis' random numbers."""
        return jax.random.fold_in(jax.random.key(seed_of(self.config, "select")), purpose)

    def loop(self, name: str, state, total: Metrics, steps: int, images: int = 0) -> Loop:
        """A loop that an interruption begins anew (`loops.Begin`)."""
        return _Checked(name, state, total, steps, images)

    def accuracy(self, state: SearchState) -> float:
        """Validation accuracy in percent, as a run validates."""
        return self.training.validate(state, self.key(0), self.loop)["valid_accuracy"]

    def selection(self, name: str, epoch: int = 0, **keys) -> Settings:
        """A selection from the supernet in a run directory of its own, checked but not begun.

        Args:
          name: of the directory, in `out`.
          epoch: of the search; 0: the last one kept.
          keys: of the config, with __ for the dot.

        Raises:
          ConfigError: a key does not fit.
        """
        config = self._selecting(epoch, **{key.replace("__", "."): value for key, value in keys.items()})
        return Settings(config, self.out / name, False, None, ())

    def carry_out(self, selection: Settings) -> pathlib.Path:
        """Begins a `selection`, or continues it where it was left; its run directory."""
        execute.execute(selection, pipeline(selection.config), lambda _: None, self.stop)
        return selection.workdir

    @functools.cached_property
    def table(self) -> nasbench201.Table:
        """The accuracies of NAS-Bench-201.

        Raises:
          ConfigError: the space is another, or the run has no table.
        """
        if self.space.notation != "nasbench201":
            raise ConfigError(f"--run {self.directory}: its space is {self.space.name}, which no table looks up")
        if not self.config.report.nasbench201:
            raise ConfigError("--table is missing: name the npz of python -m experiments.nasbench201 import")
        return nasbench201.Table(self.config.report.nasbench201)

    @functools.cached_property
    def random(self) -> dict[str, dict[str, float]]:
        """What a random choice from the table gives (`random_choice`), by metric."""
        return {name: self.table.random_choice(name) for name in nasbench201.SUMMARY}

    def looked_up(self, genotype: Genotype) -> dict:
        """An architecture as text, with its accuracies and its rank in the table."""
        arch = genotype.text("nasbench201")
        found = self.table.accuracies(arch)
        accuracies = {name: found[name] for name in nasbench201.SUMMARY}
        return {"genotype": arch, **accuracies, "rank": self.table.rank(arch)}

"""A run: a directory, and a fixed list of units of work that turn one state into the next.

The list follows from the config alone. After every unit the state is checkpointed with the number of units done and
the lengths of the records, so that the same command goes on where the last one stopped.
"""

import dataclasses
import functools
import json
import pathlib
import time
import zlib
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from darts_pt_jax import record
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.data import sources
from darts_pt_jax.selection import perturbation
from experiments.settings import ConfigError, Settings, flatten
from experiments.training import Training

WITHOUT_EFFECT = ("stages", "data.path", "report.")
"""Keys, or beginnings of keys, that may change between two commands on one run directory."""


class RunError(RuntimeError):
    """A run cannot go on; the message is one line. The program exits with code 1."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of work: `do(run, state)` returns the next state and leaves its records.

    `memory_key` is the config key to lower when the unit runs out of memory.
    """

    stage: str
    name: str
    do: Callable[["Run", SearchState], SearchState]
    memory_key: str = "search.batch_size"


class Run:
    """What a unit works with: the config, the supernet and its data, and where to record."""

    def __init__(self, settings: Settings, training: Training):
        """Binds a run directory to its supernet and data."""
        self.config, self.directory = settings.config, settings.workdir
        self.training = training
        self.metrics = record.JsonLines(self.directory / "metrics.jsonl")
        self.decisions = record.JsonLines(self.directory / "decisions.jsonl")
        self.timings = record.JsonLines(self.directory / "timings.jsonl")
        self.checkpoints = Checkpoints(self.directory / "checkpoints", keep=2)
        self.snapshots = Checkpoints(self.directory / "snapshots", keep=None)
        self.label = ""

    def key(self, purpose: str) -> jax.Array:
        """The root of one purpose's random numbers."""
        return jax.random.fold_in(jax.random.key(self.config.seed), zlib.crc32(purpose.encode()))

    @functools.cache  # noqa: B019 (a run lives as long as its program)
    def scorer(self, kind: str):
        """The compiled scorer of one cell kind."""
        select = self.config.select
        return jax.jit(perturbation.make_scorer(self.training.net, kind, select.bn == "batch", select.augment))

    def snapshot(self, epoch: int, state: SearchState):
        """Keeps the supernet of a search epoch for good."""
        if epoch not in self.snapshots.numbers():
            self.snapshots.save(epoch, state, {"epoch": epoch})

    def write(self, name: str, text: str):
        """Writes a result file in one step."""
        record.write_text(self.directory / name, text)

    def say(self, values: dict):
        """One line on the screen about the unit at work."""
        words = " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"{self.label}: {words}", flush=True)

    def resume(self) -> tuple[int, SearchState]:
        """Units done and the state after them; records are cut back to that point."""
        records = (self.metrics, self.decisions)
        newest = self.checkpoints.latest()
        if newest is None:
            if any(lines.size() for lines in records):
                raise RunError(
                    f"{self.directory} has records but no checkpoint: put its checkpoints back or name a new --workdir"
                )
            state = self.training.initial_state(self.key("init"))
            self._save(0, state)
            return 0, state
        state, position = self.checkpoints.restore(newest, self.training.abstract_state())
        for lines in records:
            lines.truncate(position["sizes"][lines.path.name])
        print(f"continuing {self.directory} after {position['units']} units", flush=True)
        return position["units"], state

    def _save(self, done: int, state: SearchState):
        sizes = {lines.path.name: lines.size() for lines in (self.metrics, self.decisions)}
        self.checkpoints.save(done, state, {"units": done, "sizes": sizes})

    def carry_out(self, units: Sequence[Unit], done: int, state: SearchState) -> SearchState:
        """Carries out `units`, the first of which is number `done` of all.

        Raises:
          RunError: a unit failed for a reason that the user can mend.
        """
        for unit in units:
            start, self.label = time.perf_counter(), f"{unit.stage} {unit.name}"
            try:
                state = unit.do(self, state)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                section, name = unit.memory_key.split(".")
                value = self.config[section][name] or "all of an edge"
                raise RunError(f"{self.label}: out of memory: lower {unit.memory_key}, now {value}") from error
            except FloatingPointError as error:
                raise RunError(f"{self.label}: {error}") from error
            done += 1
            seconds, start = time.perf_counter() - start, time.perf_counter()
            self._save(done, state)
            saved = time.perf_counter() - start
            self.timings.append(stage=unit.stage, unit=unit.name, seconds=seconds, checkpoint_seconds=saved)
        return state


def execute(settings: Settings, pipeline: dict[str, list[Unit]], report: Callable[[Settings], bool]):
    """Runs the requested stages on what earlier commands left.

    Args:
      settings: the command.
      pipeline: the units of every stage, in order.
      report: carries out the stage "report", which has no units; returns whether it changed a file.

    Raises:
      ConfigError, DataError: the settings do not fit the run directory or the data.
      RunError: a stage is requested before the one it needs, or work failed.
    """
    directory = settings.workdir
    stored = _stored(directory)
    done = Checkpoints(directory / "checkpoints", keep=2).latest() or 0 if stored else 0
    if stored:
        _refuse_changes(settings, stored, select_begun=done > len(pipeline["search"]))
    goal = _goal(settings, pipeline, done)
    changed = done < goal
    if changed:
        images = load_images(settings.config)
        training = Training(settings.config, images)
        _bind(settings, stored, images.fingerprint())
        run = Run(settings, training)
        done, state = run.resume()
        run.carry_out([unit for units in pipeline.values() for unit in units][done:goal], done, state)
    if "report" in settings.stages:
        changed |= report(settings)
    print(f"{'' if changed else 'finished: '}the results are in {directory}")


def load_images(config: ConfigDict) -> sources.Images:
    """The images that the config names."""
    return sources.load(config.data.source, config.data.path, config.data.size, config.data.examples)


def _goal(settings: Settings, pipeline: dict[str, list[Unit]], done: int) -> int:
    """How many units are done after this command."""
    goal, border = done, 0
    for stage, units in pipeline.items():
        if stage in settings.stages:
            if goal < border:
                raise RunError(
                    f"stage {stage} needs the stages before it, but {settings.workdir} has only {goal} of their "
                    f"{border} units: name them in --config.stages too"
                )
            goal = max(goal, border + len(units))
        border += len(units)
    return goal


def _stored(directory: pathlib.Path) -> dict | None:
    file = directory / "run.json"
    if file.exists():
        return json.loads(file.read_text())
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"--workdir {directory} holds something else than a run: name a new or an empty directory")
    return None


def _refuse_changes(settings: Settings, stored: dict, select_begun: bool):
    free = WITHOUT_EFFECT if select_begun else (*WITHOUT_EFFECT, "select.")
    now, then = flatten(settings.config), stored["config"]
    changed = [k for k in sorted(now.keys() | then.keys()) if now.get(k) != then.get(k) and not k.startswith(free)]
    if changed:
        values = ", ".join(f"{k} was {then.get(k)!r} and is {now.get(k)!r}" for k in changed)
        raise ConfigError(
            f"{settings.workdir} was begun with another config: {values}; set it back or name a new --workdir"
        )


def _bind(settings: Settings, stored: dict | None, fingerprint: str):
    if stored and stored["data_sha256"] != fingerprint:
        raise ConfigError(f"data: the images are not those that {settings.workdir} was begun with (SHA-256 differs)")
    settings.workdir.mkdir(parents=True, exist_ok=True)
    content = {"config": flatten(settings.config), "data_sha256": fingerprint}
    record.write_text(settings.workdir / "run.json", json.dumps(content, indent=1) + "\n")

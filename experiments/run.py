"""A run: a directory, and a fixed list of units of work that turn one state into the next.

The list follows from the config alone. After every unit the state is checkpointed with the number of units done and
the lengths of the records, so that the same command goes on where the last one stopped.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import pathlib
import socket
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
    type: str
    number: str
    do: Callable[["Run", SearchState], SearchState]
    memory_key: str = "search.batch_size"

    @property
    def name(self) -> str:
        """What the screen and the timings call it."""
        return f"{self.stage} {self.type} {self.number}".strip()


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

    def epoch(
        self, state: SearchState, key: jax.Array, learning_rate: float, sampling: str, number: int, last: bool
    ) -> tuple[SearchState, dict]:
        """`Training.epoch`, validated if epoch `number` (from 0) is due or the last; the state and all metrics."""
        state, metrics = self.training.epoch(state, key, learning_rate, sampling)
        if last or (number + 1) % self.config.eval.every == 0:
            metrics |= self.training.validate(state, self.key("valid"))
        return state, metrics

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
        newest = self.checkpoints.latest()
        if newest:
            state, position = self.checkpoints.restore(newest, self.training.abstract_state())
            done, sizes = position["units"], position["sizes"]
            print(f"continuing {self.directory} after {done} units", flush=True)
        else:
            done, sizes, state = 0, {}, self.training.initial_state(self.key("init"))
            if newest is None:
                self._save(0, state)
        for lines in (self.metrics, self.decisions):
            lines.truncate(sizes.get(lines.path.name, 0))
        return done, state

    def _save(self, done: int, state: SearchState):
        sizes = {lines.path.name: lines.size() for lines in (self.metrics, self.decisions)}
        self.checkpoints.save(done, state, {"units": done, "sizes": sizes})

    def carry_out(self, units: Sequence[Unit], done: int, state: SearchState) -> SearchState:
        """Carries out `units`, the first of which is number `done` of all.

        Raises:
          RunError: a unit failed for a reason that the user can mend.
        """
        for unit in units:
            start, self.label = time.perf_counter(), unit.name
            with _one_line(unit.name, self._memory_advice(unit)):
                state = unit.do(self, state)
            done += 1
            seconds, start = time.perf_counter() - start, time.perf_counter()
            self._save(done, state)
            saved = time.perf_counter() - start
            self.timings.append(
                stage=unit.stage, type=unit.type, number=unit.number, seconds=seconds, checkpoint_seconds=saved
            )
        return state

    def _memory_advice(self, unit: Unit) -> str:
        section, name = unit.memory_key.split(".")
        value = self.config[section][name]
        if unit.memory_key == "select.mask_batch":
            if value == 1:
                return "lower supernet.channels in a new --workdir: select.mask_batch is 1 already"
            value = value or "0 (all removals of an edge)"
        return f"lower {unit.memory_key}, now {value}"


@contextlib.contextmanager
def _one_line(name: str, memory_advice: str):
    """Turns failures that the user can mend into a `RunError` that says how."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise RunError(f"{name}: out of memory: {memory_advice}") from error
    except FloatingPointError as error:
        raise RunError(f"{name}: {error}") from error


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
    directory, (stored, done) = settings.workdir, progress(settings, pipeline)
    goal = _goal(settings, pipeline, done)
    changed = done < goal
    if changed:
        with _one_line("start", "lower data.examples, data.size or supernet.channels"):
            images = load_images(settings.config)
            training = Training(settings.config, images)
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            _bind(settings, stored if done else None, images.fingerprint())
            run = Run(settings, training)
            with _one_line("start", "lower supernet.channels or supernet.cells"):
                done, state = run.resume()
            print("compiling: the first epoch and the first decisions take longer than the others", flush=True)
            run.carry_out([unit for units in pipeline.values() for unit in units][done:goal], done, state)
    reported = (directory / "report.md").exists()
    if "report" in settings.stages and (changed or not reported or settings.config.report.nasbench201):
        changed |= report(settings)
    print(f"{'' if changed else 'finished: '}the results are in {directory}")


def progress(settings: Settings, pipeline: dict[str, list[Unit]]) -> tuple[dict | None, int]:
    """What run.json says (None for a new run), and how many units are done.

    Raises:
      ConfigError: the run directory is of something else, or of another config.
      RunError: checkpoints are missing.
    """
    stored = _stored(settings.workdir)
    done = _done(settings.workdir) if stored else 0
    if done:
        _refuse_changes(settings, stored, decided=done > len(pipeline["search"]) + 1)
    return stored, done


def load_images(config: ConfigDict) -> sources.Images:
    """The images that the config names."""
    return sources.load(config.data.source, config.data.path, config.data.size, config.data.examples)


def _goal(settings: Settings, pipeline: dict[str, list[Unit]], done: int) -> int:
    """How many units are done after this command."""
    goal, border, missing = done, 0, None
    for stage, units in pipeline.items():
        border += len(units)
        if stage in settings.stages:
            if missing:
                raise RunError(
                    f"stage {stage} needs {missing}, which is not finished in {settings.workdir}: "
                    f"name it in --config.stages too"
                )
            goal = max(goal, border)
        elif done < border:
            missing = missing or stage
    return goal


def _stored(directory: pathlib.Path) -> dict | None:
    file = directory / "run.json"
    if file.exists():
        return json.loads(file.read_text())
    own = {"lock", "run.json.tmp"}
    if directory.exists() and (not directory.is_dir() or {p.name for p in directory.iterdir()} - own):
        raise ConfigError(f"--workdir {directory} holds something else than a run: name a new or an empty directory")
    return None


def _done(directory: pathlib.Path) -> int:
    newest = Checkpoints(directory / "checkpoints", keep=2).latest()
    if newest is None and any((directory / name).exists() for name in ("metrics.jsonl", "decisions.jsonl")):
        raise RunError(f"{directory} has records but no checkpoint: put its checkpoints back or name a new --workdir")
    return newest or 0


def _refuse_changes(settings: Settings, stored: dict, decided: bool):
    free = WITHOUT_EFFECT if decided else (*WITHOUT_EFFECT, "select.")
    now, then = flatten(settings.config), stored["config"]
    changed = [k for k in sorted(now.keys() | then.keys()) if now.get(k) != then.get(k) and not k.startswith(free)]
    if changed:
        values = ", ".join(f"{k} was {then.get(k)!r} and is {now.get(k)!r}" for k in changed)
        raise ConfigError(
            f"{settings.workdir} was begun with another config: {values}; set it back or name a new --workdir"
        )


@contextlib.contextmanager
def _locked(directory: pathlib.Path):
    """Keeps other processes of this machine out; the system frees the lock of a dead one."""
    with (directory / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise RunError(f"{directory} is in use by {owner}: wait for it or end it") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _bind(settings: Settings, stored: dict | None, fingerprint: str):
    if stored and stored["data_sha256"] != fingerprint:
        raise ConfigError(f"data: the images are not those that {settings.workdir} was begun with (SHA-256 differs)")
    content = {"config": flatten(settings.config), "data_sha256": fingerprint}
    record.write_text(settings.workdir / "run.json", json.dumps(content, indent=1) + "\n")

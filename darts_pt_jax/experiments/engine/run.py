"""A run: a fixed list of units of work, each of which turns one state into the next.

The list follows from the config alone. After every unit, and sometimes between two steps of a unit, the run writes a
checkpoint: the state, the number of finished units, the lengths of the records, and the sums of the loops within the
current unit. So the same command continues where the last one stopped.
"""

import contextlib
import functools
import signal
import time
import zlib
from collections.abc import Sequence

import jax

from darts_pt_jax import bilevel, hosts, record
from darts_pt_jax.architecture import Decisions
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.checkpoints import Checkpoints, size_of
from darts_pt_jax.data.images import DataError, Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config import schema
from darts_pt_jax.experiments.config.schema import seed_of
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.engine import directory
from darts_pt_jax.experiments.engine.failures import one_line
from darts_pt_jax.experiments.engine.interrupts import Interrupted, Interrupts
from darts_pt_jax.experiments.engine.loops import RunLoop, plain
from darts_pt_jax.experiments.engine.scalars import loggers
from darts_pt_jax.experiments.engine.screen import Screen, words
from darts_pt_jax.experiments.engine.sources import Source
from darts_pt_jax.experiments.engine.timing import Stopwatch
from darts_pt_jax.experiments.engine.torch_source import TorchSource
from darts_pt_jax.experiments.engine.units import State, Unit
from darts_pt_jax.experiments.errors import RunError
from darts_pt_jax.experiments.training.loops import not_finite
from darts_pt_jax.experiments.training.network import Retraining, chosen, written_genotype
from darts_pt_jax.experiments.training.supernet import Regime, Training
from darts_pt_jax.selection.budgets import Budget


class Run:
    """A run in progress, as its units see it: config, supernet and data, the supernet's source, records, loops.

    Attributes:
      done: number of finished units, from `resume` on.
    """

    def __init__(
        self, settings: Settings, images: Images | Stream, devices: Devices, training: Training | None,
        source: Source | TorchSource | None, budget: Budget | None, screen: Screen, stop: Interrupts,
    ):  # fmt: skip
        """A run of `settings`; `training` is None if the config names an architecture, `source` if nothing is taken over.

        `budget` holds the limits of the selection, if there are any.
        """
        self.config, self.directory, self._images, self._devices = settings.config, settings.workdir, images, devices
        self.training, self.source, self.budget = training, source, budget
        self._whole, self._excluded = training, None
        self.metrics = record.JsonLines(self.directory / "metrics.jsonl")
        self.decisions = record.JsonLines(self.directory / "decisions.jsonl")
        self.timings = record.JsonLines(self.directory / "timings.jsonl")
        self.snapshots = Checkpoints(self.directory / "snapshots")
        self._checkpoints = Checkpoints(self.directory / "checkpoints", keep=self.config.checkpoint.keep)
        self._screen, self._stop = screen, stop
        self._loggers, self._retrains, self._written = [], False, set()

    @functools.cached_property
    def retraining(self) -> Retraining:
        """The network of the chosen architecture."""
        genotype = written_genotype(self.directory) if self._retrains else chosen(self.config, self.directory)
        self.training = self._whole = None  # frees the device from the supernet's images
        retraining = Retraining(self.config, self._images, genotype, self._devices)
        needed = size_of(retraining.abstract_state()), self.config.checkpoint.keep + 1, ("checkpoints",)
        directory.require_room(self.directory, *needed)
        return retraining

    def key(self, stage: str, purpose: str, order: int = 0) -> jax.Array:
        """The key of all random numbers for one purpose in a stage; each order of a selection has another seed."""
        seed = seed_of(self.config, stage) + order
        return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))

    def epoch(
        self, state: SearchState, key: jax.Array, regime: Regime, number: int, last: bool
    ) -> tuple[SearchState, dict]:
        """`Training.epoch`, with validation if it is due after epoch `number` (from 0) or the epoch is the last.

        Returns:
          The state, and all metrics.
        """
        state, metrics = self.training.epoch(state, key, regime, self.loop)
        if last or (number + 1) % self.config.eval.every == 0:
            metrics |= self.validate(state)
        return state, metrics

    def validate(self, state: SearchState) -> dict:
        """`Training.validate`."""
        return self.training.validate(state, self.key("search", "valid"), self.loop)

    def loop(self, name: str, state: State, total, steps: int, images: int = 0) -> RunLoop:
        """Begins a loop of the current unit, or continues it where an earlier command stopped (`loops.Begin`).

        Raises:
          RunError: the loop was begun with another number of steps, as `search.scan` decides it by the device.
        """
        number, self._loop = self._loop, self._loop + 1
        if number == len(self._within):
            self._within.append({"done": 0, "of": steps, "sums": plain(total)})
        place = self._within[number]
        if place["of"] != steps:
            raise RunError(
                f"{self._unit.name} stopped in {name} step {place['done']} of {place['of']}, but on this device it has "
                f"{steps} steps (search.scan): continue on the device where it began until the unit is done"
            )
        return RunLoop(self.step_done, place, name, state, total, steps, images)

    def step_done(self, loop: RunLoop, watch: Stopwatch, done: int):
        """Shows a step of a loop; saves if that is due, or a signal asks to stop.

        Raises:
          Interrupted: a signal asked to stop; step and state are saved.
        """
        self._watch.images += loop.images
        self._screen.step(watch, loop.name, done, loop.steps, loop.images, loop.measures)
        due = time.monotonic() - self._saved >= 60 * self.config.checkpoint.minutes
        asked = self._asked(due)
        if asked and done < loop.steps:
            loop.keep(done)
            self._save(loop.state)
            self._heed(asked, f"after {loop.name} step {done} of {loop.steps}")

    def record_metrics(self, **entry):
        """Adds a line to metrics.jsonl."""
        self.metrics.append(**entry)
        self._log(entry)

    def record_decision(self, **entry):
        """Adds a line to decisions.jsonl."""
        self.decisions.append(**entry)
        self._log(entry)

    def _log(self, entry: dict):
        for logger in self._loggers:
            logger.add(entry)

    def snapshot(self, epoch: int, state: SearchState):
        """Keeps the supernet of a search epoch for good."""
        if hosts.of_first(epoch not in self.snapshots.numbers()):
            self.snapshots.save(epoch, state, {"epoch": epoch})

    def searched(self) -> SearchState:
        """The supernet at the end of the search, whole again."""
        self.training, self._excluded = self._whole, None
        return self.snapshots.restore(hosts.of_first(self.snapshots.latest()), self.training.abstract_state())

    def restrict(self, state: SearchState) -> SearchState:
        """Drops the candidates that the decisions have excluded, from the state and from all later computations."""
        whole = self.training
        self._set_aside(state.decisions.to_lists())
        return bilevel.restrict(state, whole.net, self.training.net, self.training.abstract_state())

    def _set_aside(self, decisions: dict):
        self._excluded = decisions
        self.training = self._whole.restricted(Decisions.from_lists(decisions))

    def write(self, name: str, text: str):
        """Writes a result file atomically."""
        record.write_text(self.directory / name, text)
        self._written.add(name)

    def say(self, values: dict):
        """Prints a line about the current unit."""
        self._screen.say(f"{self._unit.name}: {words(values)}")

    def warn(self, text: str):
        """Prints a warning."""
        self._screen.say(f"warning: {text}")

    def resume(self, units: Sequence[Unit]) -> State:
        """The state of the newest sound checkpoint, or a fresh one; cuts the records back to that point."""
        newest, damaged = hosts.of_first(self._checkpoints.newest_sound())
        for number, wrong in damaged.items():
            place = self._checkpoints.set_aside(int(number))
            self._screen.say(
                f"warning: checkpoint {number} is damaged ({wrong}) and moved to {place}: returning to checkpoint {newest}"
            )
        position = directory.beginning() if newest is None else self._checkpoints.position(newest)
        self._number = -1 if newest is None else newest
        self.done, self._within, records = position["units"], position["within"], position["records"]
        if self.done or self._within:
            if position["restricted"]:
                self._set_aside(position["restricted"])
            self._retrains = units[self.done - (not self._within)].stage == "retrain"
            trainer = self.retraining if self._retrains else self.training
            state = self._checkpoints.restore(newest, trainer.abstract_state())
            steps = f" and {self._within[-1]['done']} steps" if self._within else ""
            self._screen.say(f"continuing {self.directory} after {self.done} units{steps}")
        else:
            stage, trainer = ("search", self.training) if self.training else ("retrain", self.retraining)
            state = trainer.initial_state(self.key(stage, "init"))
            self.snapshots.clear()  # an aborted start, perhaps with another config, may have left some
        for lines in (self.metrics, self.decisions):
            lines.truncate(records.get(lines.path.name, record.EMPTY)[0])
        self._written = set(records)
        self.timings.mend()
        if hosts.first():
            self._loggers = loggers(self.config, self.directory, self.metrics.read() + self.decisions.read())
        if not self._retrains:
            directory.require_room(self.directory, size_of(state), directory.checkpoints_kept(self.config))
        hosts.meet("resumed")
        if newest is None:
            self._save(state)
        return state

    def _save(self, state: State):
        state = jax.device_get(state)  # once, for the check and for the file
        if what := not_finite([("the state", state)]):
            raise RunError(f"{what}: lower the learning rate, or look at the data; the last checkpoint is kept")
        hosts.meet("records")
        records = {lines.path.name: lines.digest() for lines in (self.metrics, self.decisions)}
        if "genotype.json" in self._written:  # stage retrain reads it
            records["genotype.json"] = record.digest(self.directory / "genotype.json")
        self._number += 1
        position = {"units": self.done, "records": records, "within": self._within, "restricted": self._excluded}
        self._checkpoints.save(self._number, state, position)
        self._saved = time.monotonic()

    def _asked(self, due: bool = False) -> int:
        """The reason to save, shared by all hosts: the signal that one of them received, 1 if saving is due, else 0."""
        return hosts.largest(max(self._stop.received or 0, due))

    def _heed(self, asked: int, where: str):
        """Stops here if `asked` (of `_asked`) is a signal."""
        if asked > 1:  # neither signal has the number 1
            message = f"in {self._unit.name}, {where}: the same command continues from there"
            raise Interrupted(signal.Signals(asked), message)

    def carry_out(self, units: Sequence[Unit], state: State):
        """Carries out `units`, the next ones of the run.

        Raises:
          RunError: a unit failed for a reason that the user can fix.
          Interrupted: a signal asked to stop.
        """
        self._saved, self._stop.saves = time.monotonic(), True
        for unit in units:
            self._unit, self._watch, self._loop = unit, Stopwatch(), 0
            self._screen.begin(unit, whole=not self._within)
            try:
                with one_line(unit.name, functools.partial(self._memory_advice, unit)):
                    state = unit.do(self, state)
            except BaseException as error:
                with contextlib.suppress(record.WriteError):
                    self._time(unit, False)
                if isinstance(error, DataError):  # a picture that is read when needed
                    raise RunError(f"{unit.name}: {error}") from error
                raise
            self._time(unit, True)
            self._screen.end()
            self.done, self._within = self.done + 1, []
            self._save(state)
            self._heed(self._asked(), "which is done")
        self._stop.saves = False

    def close(self):
        """Closes the open files."""
        for logger in self._loggers:
            logger.close()

    def _time(self, unit: Unit, finished: bool):
        watch = self._watch
        self.timings.append(
            stage=unit.stage, type=unit.type, number=unit.number, seconds=watch.seconds,
            compile_seconds=watch.compile_seconds, images=watch.images, finished=finished,
        )  # fmt: skip

    def _memory_advice(self, unit: Unit) -> str:
        value = schema.value(self.config, unit.memory_key)
        if unit.memory_key == "select.mask_batch":
            if value == 1:
                return "lower supernet.channels in a new --workdir: select.mask_batch is 1 already"
            value = value or "0 (all removals of an edge)"
            if self.decisions.size() or any(loop["done"] for loop in self._within):  # the key may not change any more
                value = f"{value}, in a new --workdir with --config.init_from={self.directory}"
        elif not self.config.remat and self._devices.platform != "cpu":
            value = f"{value} or set remat"
        return f"lower {unit.memory_key}, now {value}"

"""A run: a fixed list of units of work, each of which turns one state into the next.

The list follows from the config alone. After every unit, and at times between two steps of one, the state is
checkpointed with the number of units done, the lengths of the records, and the sums of the loops within the unit at
work, so that the same command continues where the last one stopped.
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
from experiments.config import schema
from experiments.config.schema import seed_of
from experiments.config.settings import Settings
from experiments.engine import directory
from experiments.engine.failures import one_line
from experiments.engine.interrupts import Interrupted, Interrupts
from experiments.engine.loops import RunLoop, plain
from experiments.engine.scalars import Scalars
from experiments.engine.screen import Screen, words
from experiments.engine.sources import Source
from experiments.engine.timing import Stopwatch
from experiments.engine.torch_source import TorchSource
from experiments.engine.units import State, Unit
from experiments.errors import RunError
from experiments.training.loops import not_finite
from experiments.training.network import Retraining, chosen, own
from experiments.training.supernet import Regime, Training


class Run:
    """What a unit works with: the config, the supernet and its data, the source of the supernet, where to record.

    Attributes:
      done: how many units are, once it has been resumed.
    """

    def __init__(
        self, settings: Settings, images: Images | Stream, devices: Devices, training: Training | None,
        source: Source | TorchSource | None, screen: Screen, stop: Interrupts,
    ):  # fmt: skip
        """Binds a run directory to its data and its supernet, if it has one."""
        self.config, self.directory, self._images, self._devices = settings.config, settings.workdir, images, devices
        self.training, self.source = training, source
        self._whole, self._excluded = training, None
        self.metrics = record.JsonLines(self.directory / "metrics.jsonl")
        self.decisions = record.JsonLines(self.directory / "decisions.jsonl")
        self.timings = record.JsonLines(self.directory / "timings.jsonl")
        self.snapshots = Checkpoints(self.directory / "snapshots")
        self._checkpoints = Checkpoints(self.directory / "checkpoints", keep=self.config.checkpoint.keep)
        self._screen, self._stop = screen, stop
        self._scalars, self._retrains, self._written = None, False, set()

    @functools.cached_property
    def retraining(self) -> Retraining:
        """The network of the chosen architecture."""
        genotype = own(self.directory) if self._retrains else chosen(self.config, self.directory)
        self.training = self._whole = None  # the supernet's images make room on the device
        of = Retraining(self.config, self._images, genotype, self._devices)
        needed = size_of(of.abstract_state()), self.config.checkpoint.keep + 1, ("checkpoints",)
        directory.require_room(self.directory, *needed)
        return of

    def key(self, stage: str, purpose: str, order: int = 0) -> jax.Array:
        """The root of one purpose's random numbers in a stage; each order of a selection is a seed of its own."""
        seed = seed_of(self.config, stage) + order
        return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))

    def epoch(
        self, state: SearchState, key: jax.Array, regime: Regime, number: int, last: bool
    ) -> tuple[SearchState, dict]:
        """`Training.epoch`, validated if epoch `number` (from 0) is due or the last; the state and all metrics."""
        state, metrics = self.training.epoch(state, key, regime, self.loop)
        if last or (number + 1) % self.config.eval.every == 0:
            metrics |= self.validate(state)
        return state, metrics

    def validate(self, state: SearchState) -> dict:
        """`Training.validate`."""
        return self.training.validate(state, self.key("search", "valid"), self.loop)

    def loop(self, name: str, state: State, total, steps: int, images: int = 0) -> RunLoop:
        """A loop of the unit at work, from where an earlier command stopped in it (`loops.Begin`).

        Raises:
          RunError: the loop was begun with another number of steps, on a device where `search.scan` means another.
        """
        number, self._loop = self._loop, self._loop + 1
        if number == len(self._within):
            self._within.append({"done": 0, "of": steps, "sums": plain(total)})
        place = self._within[number]
        if place["of"] != steps:
            raise RunError(
                f"{self._unit.name} was left in {name} step {place['done']} of {place['of']}, which is of {steps} on this "
                "device (search.scan): go on with it where it began, until the unit is done"
            )
        return RunLoop(self.step_done, place, name, state, total, steps, images)

    def step_done(self, loop: RunLoop, watch: Stopwatch, done: int):
        """Shows a step of a loop; saves between two steps if it is time or a signal asks for it.

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
        if self._scalars:
            self._scalars.add(entry)

    def record_decision(self, **entry):
        """Adds a line to decisions.jsonl."""
        self.decisions.append(**entry)
        if self._scalars:
            self._scalars.add(entry)

    def snapshot(self, epoch: int, state: SearchState):
        """Keeps the supernet of a search epoch for good."""
        if hosts.of_first(epoch not in self.snapshots.numbers()):
            self.snapshots.save(epoch, state, {"epoch": epoch})

    def searched(self) -> SearchState:
        """The supernet at the end of the search, whole again."""
        self.training, self._excluded = self._whole, None
        return self.snapshots.restore(hosts.of_first(self.snapshots.latest()), self.training.abstract_state())

    def restrict(self, state: SearchState) -> SearchState:
        """Leaves out, from here on, what the decisions have excluded: in the state and in all that is computed."""
        whole = self.training
        self._set_aside(state.decisions.to_lists())
        return bilevel.restrict(state, whole.net, self.training.net, self.training.abstract_state())

    def _set_aside(self, decisions: dict):
        self._excluded = decisions
        self.training = self._whole.restricted(Decisions.from_lists(decisions))

    def write(self, name: str, text: str):
        """Writes a result file in one step."""
        record.write_text(self.directory / name, text)
        self._written.add(name)

    def say(self, values: dict):
        """One line on the screen about the unit at work."""
        self._screen.say(f"{self._unit.name}: {words(values)}")

    def resume(self, units: Sequence[Unit]) -> State:
        """The state of the newest checkpoint of the run's `units`, or the first; records are cut back to that point."""
        newest, damaged = hosts.of_first(self._checkpoints.newest_sound())
        for number, wrong in damaged.items():
            place = self._checkpoints.set_aside(int(number))
            self._screen.say(
                f"warning: checkpoint {number} is damaged ({wrong}) and moved to {place}: going back to checkpoint {newest}"
            )
        position = directory.beginning() if newest is None else self._checkpoints.position(newest)
        self._number = -1 if newest is None else newest
        self.done, self._within, records = position["units"], position["within"], position["records"]
        if self.done or self._within:
            if position["restricted"]:
                self._set_aside(position["restricted"])
            self._retrains = units[self.done - (not self._within)].stage == "retrain"
            of = self.retraining if self._retrains else self.training
            state = self._checkpoints.restore(newest, of.abstract_state())
            steps = f" and {self._within[-1]['done']} steps" if self._within else ""
            self._screen.say(f"continuing {self.directory} after {self.done} units{steps}")
        else:
            stage, of = ("search", self.training) if self.training else ("retrain", self.retraining)
            state = of.initial_state(self.key(stage, "init"))
            self.snapshots.clear()  # of a beginning that was broken off, perhaps with another config
        for lines in (self.metrics, self.decisions):
            lines.truncate(records.get(lines.path.name, record.EMPTY)[0])
        self._written = set(records)
        self.timings.mend()
        if self.config.tensorboard and hosts.first():
            self._scalars = Scalars(self.directory / "tensorboard", self.metrics.read() + self.decisions.read())
        if not self._retrains:
            directory.require_room(self.directory, size_of(state), directory.checkpoints_kept(self.config))
        hosts.meet("resumed")
        if newest is None:
            self._save(state)
        return state

    def _save(self, state: State):
        state = jax.device_get(state)  # once, to look at and to write
        if what := not_finite([("the state", state)]):
            raise RunError(f"{what}: lower the learning rate, or look at the data; the last checkpoint is kept")
        hosts.meet("records")
        records = {lines.path.name: lines.digest() for lines in (self.metrics, self.decisions)}
        if "genotype.json" in self._written:  # which stage retrain reads
            records["genotype.json"] = record.digest(self.directory / "genotype.json")
        self._number += 1
        position = {"units": self.done, "records": records, "within": self._within, "restricted": self._excluded}
        self._checkpoints.save(self._number, state, position)
        self._saved = time.monotonic()

    def _asked(self, due: bool = False) -> int:
        """What asks to save: the signal that a host has received, which is then for all; 1 if it is time; else 0."""
        return hosts.largest(max(self._stop.received or 0, due))

    def _heed(self, asked: int, where: str):
        """Stops here if what `_asked` to save is a signal."""
        if asked > 1:  # neither signal is 1
            message = f"in {self._unit.name}, {where}: the same command goes on from there"
            raise Interrupted(signal.Signals(asked), message)

    def carry_out(self, units: Sequence[Unit], state: State):
        """Carries out `units`, the next ones of the run.

        Raises:
          RunError: a unit failed for a reason that the user can mend.
          Interrupted: a signal asked to stop.
        """
        self._saved, self._stop.saves = time.monotonic(), True
        for unit in units:
            self._unit, self._watch, self._loop = unit, Stopwatch(), 0
            self._screen.begin(unit)
            try:
                with one_line(unit.name, functools.partial(self._memory_advice, unit)):
                    state = unit.do(self, state)
            except BaseException as error:
                with contextlib.suppress(record.WriteError):
                    self._time(unit, False)
                if isinstance(error, DataError):  # of a picture that is read as it is needed
                    raise RunError(f"{unit.name}: {error}") from error
                raise
            self._time(unit, True)
            self._screen.end(self._watch)
            self.done, self._within = self.done + 1, []
            self._save(state)
            self._heed(self._asked(), "which is done")
        self._stop.saves = False

    def close(self):
        """Closes the files that are kept open."""
        if self._scalars:
            self._scalars.close()

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
            if self.decisions.size() or any(loop["done"] for loop in self._within):  # then it is fixed
                value = f"{value}, in a new --workdir with --config.init_from={self.directory}"
        elif not self.config.remat and self._devices.platform != "cpu":
            value = f"{value} or set remat"
        return f"lower {unit.memory_key}, now {value}"

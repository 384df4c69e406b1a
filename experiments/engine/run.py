"""A run: a fixed list of units of work, each of which turns one state into the next.

The list follows from the config alone. After every unit, and at times between two steps of one, the state is
checkpointed with the number of units done, the lengths of the records, and the sums of the loops within the unit at
work, so that the same command goes on where the last one stopped.
"""

import contextlib
import dataclasses
import functools
import io
import signal
import time
import zlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from darts_pt_jax import bilevel, hosts, record
from darts_pt_jax.architecture import Decisions
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.checkpoints import Checkpoints, size_of
from darts_pt_jax.data import sources
from darts_pt_jax.data.images import DataError, Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices
from darts_pt_jax.genotype import example
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.spaces import SPACES
from darts_pt_jax.supervised import RetrainState
from experiments.config.rules import seed_of
from experiments.config.settings import Settings
from experiments.engine import directory, locks, machine
from experiments.engine.interrupts import Interrupted, Interrupts
from experiments.engine.scalars import Scalars
from experiments.engine.screen import Screen, words
from experiments.engine.sources import Source
from experiments.engine.timing import Stopwatch
from experiments.engine.torch_source import TorchSource
from experiments.errors import ConfigError, RunError
from experiments.training import network as retraining
from experiments.training.checks import devices_of
from experiments.training.loops import Diverged, not_finite
from experiments.training.network import Retraining, chosen, own
from experiments.training.supernet import Regime, Training

State = SearchState | RetrainState


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of work: `do(run, state)` returns the next state and leaves its records.

    `memory_key` is the config key to lower when the unit runs out of memory.
    """

    stage: str
    type: str
    number: str
    do: Callable[["Run", State], State]
    memory_key: str = "search.batch_size"

    @property
    def name(self) -> str:
        """What the screen calls it."""
        return f"{self.stage} {self.type} {self.number}".strip()


class Run:
    """What a unit works with: the config, the supernet and its data, the source of the supernet, where to record."""

    def __init__(
        self, settings: Settings, images: Images | Stream, devices: Devices, training: Training | None,
        source: Source | TorchSource | None, screen: Screen,
        stop: Interrupts,
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
        state, metrics = self.training.epoch(state, key, regime, self.fold)
        if last or (number + 1) % self.config.eval.every == 0:
            metrics |= self.validate(state)
        return state, metrics

    def validate(self, state: SearchState) -> dict:
        """`Training.validate`."""
        return self.training.validate(state, self.key("search", "valid"), self.fold)

    def fold(self, name: str, step, state: State, total: Metrics, steps: int, images: int) -> tuple[State, Metrics]:
        """Goes through a loop of the unit at work, from where an earlier command stopped in it.

        Args:
          name: what its steps are, for the screen.
          step: `step(i, state, total)` gives the next state and total, for i from 0 to `steps` - 1.
          state, total: what the loop starts from; `total` holds sums of arrays.
          steps: how many.
          images: images that go through the supernet in each step.

        Raises:
          Interrupted: a signal asked to stop; step and state are saved.
          RunError: the loop was begun with another number of steps, on a device where `search.scan` means another.
        """
        number, self._loop = self._loop, self._loop + 1
        if number == len(self._within):
            self._within.append({"done": 0, "of": steps, "sums": _plain(total)})
        loop, watch, previous = self._within[number], Stopwatch(), total
        total = jax.tree.unflatten(
            jax.tree.structure(total),
            [np.asarray(v, like.dtype) for v, like in zip(loop["sums"], jax.tree.leaves(total), strict=True)],
        )
        if loop["of"] != steps:
            raise RunError(
                f"{self._unit.name} was left in {name} step {loop['done']} of {loop['of']}, which is of {steps} on this "
                "device (search.scan): go on with it where it began, until the unit is done"
            )
        for i in range(loop["done"], steps):
            state, total = step(i, state, total)
            _check(previous, name, i, state)  # waits for it, so that no more than two steps are under way
            self._watch.images += images
            watch.images += images
            self._screen.step(watch, name, i + 1, steps, images, functools.partial(_measures, total))
            previous = total
            due = time.monotonic() - self._saved >= 60 * self.config.checkpoint.minutes
            asked = self._asked(due)
            if asked and i + 1 < steps:
                _check(total, name, i + 1, state)
                loop |= {"done": i + 1, "sums": _plain(total)}
                self._save(state)
                self._heed(asked, f"after {name} step {i + 1} of {steps}")
        _check(total, name, steps, state)
        loop |= {"done": steps, "sums": _plain(total)}
        return state, total

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
        self._done, self._within, records = position["units"], position["within"], position["records"]
        if self._done or self._within:
            if position["restricted"]:
                self._set_aside(position["restricted"])
            self._retrains = units[self._done - (not self._within)].stage == "retrain"
            of = self.retraining if self._retrains else self.training
            state = self._checkpoints.restore(newest, of.abstract_state())
            steps = f" and {self._within[-1]['done']} steps" if self._within else ""
            self._screen.say(f"continuing {self.directory} after {self._done} units{steps}")
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

    @property
    def done(self) -> int:
        """How many units are."""
        return self._done

    def _save(self, state: State):
        state = jax.device_get(state)  # once, to look at and to write
        if what := not_finite([("the state", state)]):
            raise RunError(f"{what}: lower the learning rate, or look at the data; the last checkpoint is kept")
        hosts.meet("records")
        records = {lines.path.name: lines.digest() for lines in (self.metrics, self.decisions)}
        if "genotype.json" in self._written:  # which stage retrain reads
            records["genotype.json"] = record.digest(self.directory / "genotype.json")
        self._number += 1
        position = {"units": self._done, "records": records, "within": self._within, "restricted": self._excluded}
        self._checkpoints.save(self._number, state, position)
        self._saved = time.monotonic()

    def _asked(self, due: bool = False) -> int:
        """What asks to save: the signal that a host has received, which is then for all; 1 if it is time; else 0."""
        return hosts.largest(max(self._stop.received or 0, due))

    def _heed(self, asked: int, where: str):
        """Stops here if it is a signal that has `_asked`."""
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
                with _one_line(unit.name, functools.partial(self._memory_advice, unit)):
                    state = unit.do(self, state)
            except BaseException as error:
                with contextlib.suppress(record.WriteError):
                    self._time(unit, False)
                if isinstance(error, DataError):  # of a picture that is read as it is needed
                    raise RunError(f"{unit.name}: {error}") from error
                raise
            self._time(unit, True)
            self._screen.end(self._watch)
            self._done, self._within = self._done + 1, []
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
        section, name = unit.memory_key.split(".")
        value = self.config[section][name]
        if unit.memory_key == "select.mask_batch":
            if value == 1:
                return "lower supernet.channels in a new --workdir: select.mask_batch is 1 already"
            value = value or "0 (all removals of an edge)"
            if self.decisions.size() or any(loop["done"] for loop in self._within):  # then it is fixed
                value = f"{value}, in a new --workdir with --config.init_from={self.directory}"
        elif not self.config.remat and jax.default_backend() != "cpu":
            value = f"{value} or set remat"
        return f"lower {unit.memory_key}, now {value}"


def _check(total: Metrics, name: str, step: int, state: State):
    """Raises `Diverged` if a sum over the steps so far is not finite."""
    if not np.isfinite(total.loss).all():
        raise Diverged(f"{name} step {step}: the loss is not finite: look at the data", state, total)


def _plain(total: Metrics) -> list:
    """The leaves as numbers and nested lists, which keep float32 and float64 to the bit."""
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(total)]


def _measures(total: Metrics) -> dict:
    """Mean loss and accuracy of sums; of several masks, those of the first, which is the unmasked supernet."""
    loss, correct, images = (np.ravel(leaf)[0].item() for leaf in (total.loss, total.correct, total.images))
    return {"loss": loss / max(images, 1), "accuracy": 100 * correct / max(images, 1)}


_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED", "Out of memory"
"""What jax says: the second where the memory was for what another computation waits for."""


def out_of_memory(error: Exception) -> bool:
    """Whether that is what an error of Python or jax says."""
    return isinstance(error, MemoryError) or any(said in str(error) for said in _OUT_OF_MEMORY)


@contextlib.contextmanager
def _one_line(name: str, memory_advice: Callable[[], str]):
    """Turns failures that the user can mend into a `RunError` that says how."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise RunError(f"{name}: out of memory: {memory_advice()}") from error
    except FloatingPointError as error:
        if jax.config.jax_debug_nans:
            raise
        raise RunError(
            f"{name}, {error}; the last checkpoint is kept: --config.debug_nans=True goes on from it and stops at the "
            "operation"
        ) from error


def execute(settings: Settings, pipeline: dict[str, list[Unit]], report, stop: Interrupts):
    """Runs the requested stages on what earlier commands left.

    Args:
      settings: the command.
      pipeline: the units of every stage, in order.
      report: the stage "report", which has no units: `report(settings)` writes what is missing and returns a text for
        the screen, or None if nothing changed.
      stop: the signals that may interrupt.

    Raises:
      ConfigError, DataError: the settings do not fit the run directory or the data, or a stage is requested before the
        one it needs.
      RunError: work failed.
      Interrupted: a signal asked to stop.
    """
    machine.prepare(settings.config)
    workdir, units = settings.workdir, [unit for stage in pipeline.values() for unit in stage]
    locks.refuse_if_locked(workdir / "lock")
    before, done = hosts.of_first(progress(settings, pipeline))
    screen = Screen(None if hosts.first() else io.StringIO())
    worked = done < goal(settings, pipeline, done)
    if worked:
        source = Source.named(settings, before)
        if settings.config.data.download and sources.find(settings.config.data.source).downloads:
            screen.say("tensorflow-datasets downloads the data if they are not there yet")
        with _one_line("start", lambda: "lower data.examples, data.size or supernet.channels"):
            devices = devices_of(settings.config)
            images = _loaded(settings.config)
            if "retrain" in settings.stages:
                check_retraining(settings, images, devices)
            training = None if settings.config.genotype else Training(settings.config, images, devices)
            if source and training:
                source.check(training)
        for note in (*images.notes, *(source.notes if source else ())):
            screen.say(note)
        hosts.meet("ready")
        workdir.mkdir(parents=True, exist_ok=True)
        with locks.locked(workdir / "lock"):
            before, done = hosts.of_first(progress(settings, pipeline))  # anew: another may have worked on it meanwhile
            if warning := directory.bind(settings, before, source and source.data_sha256, images, devices):
                screen.say(warning)
            hosts.meet("bound")
            with contextlib.closing(Run(settings, images, devices, training, source, screen, stop)) as run:
                del training  # so that the run alone holds it
                with _one_line("start", lambda: "lower supernet.channels or supernet.cells"):
                    state = run.resume(units)
                screen.say("compiling: the first epoch and the first decisions take longer than the others")
                todo = units[run.done : goal(settings, pipeline, run.done)]
                with screen.showing(todo):
                    run.carry_out(todo, state)
    if not hosts.first():
        return
    text = report(settings) if "report" in settings.stages else None
    if text:
        screen.show(text)
    names = ("report.md", "report.html", "drawings", "genotype.txt", "retrained.json", "network.safetensors")
    left = ", ".join(name for name in names if (workdir / name).exists())
    where = f"{workdir}: {left}" if "report.md" in left else workdir
    screen.say(f"{'' if worked or text else 'finished: '}the results are in {where}")


def progress(settings: Settings, pipeline: dict[str, list[Unit]]) -> tuple[dict | None, int]:
    """What run.json says (None if no step is done), and how many units are done.

    Raises:
      ConfigError: the run directory is of something else, or of another config.
      RunError: checkpoints are missing.
    """
    before = directory.stored(settings.workdir)
    position = directory.position(settings.workdir) if before else directory.beginning()
    done, begun = position["units"], bool(position["within"])
    if not done and not begun:
        return None, 0
    units = [(unit.stage, unit.type) for stage in pipeline.values() for unit in stage]
    free = directory.FREE
    if ("select", "begin") in units and done + begun <= 1 + units.index(("select", "begin")):
        free += ("select.", "sgas.")
    if done + begun <= units.index(("retrain", "epoch")):
        free += ("retrain.",)
    elif settings.config.genotype:
        _refuse_another_architecture(settings)
    directory.refuse_changes(settings, before["config"], free)
    return before, done


def _refuse_another_architecture(settings: Settings):
    """Holds what a file or text says now against what the run has begun to train."""
    try:
        named = chosen(settings.config, settings.workdir)
    except ConfigError:  # a file that is gone since: the run has its own
        return
    if named != own(settings.workdir):
        raise ConfigError(
            f"genotype: {settings.config.genotype:.300} is another architecture than {settings.workdir} was begun with: "
            "set it back or name a new --workdir"
        )


def load_images(config: ConfigDict, download: bool = False) -> Images | Stream:
    """The images that the config names."""
    data = config.data
    return sources.load_images(data.source, data.path, data.size, data.examples, data.dir, download, data.crop)


def _loaded(config: ConfigDict) -> Images | Stream:
    """`load_images`; where something is downloaded, by the first host before the others look for it."""
    if not config.data.download:
        return load_images(config)
    images = load_images(config, True) if hosts.first() else None
    hosts.meet("downloaded")
    return load_images(config) if images is None else images


def check_retraining(settings: Settings, images: Images | Stream, devices: Devices):
    """Refuses, before any work, what stage retrain could not do.

    Raises:
      ConfigError, DataError: its settings do not fit the images or the cells.
    """
    config = settings.config
    genotype = chosen(config, settings.workdir) if config.genotype else example(SPACES[config.space])
    retraining.check(config, images, genotype, devices)


def goal(settings: Settings, pipeline: dict[str, list[Unit]], done: int) -> int:
    """How many units are done after this command.

    Raises:
      ConfigError: a stage is requested before one that it needs.
    """
    goal, border, missing = done, 0, None
    for stage, units in pipeline.items():
        border += len(units)
        if stage in settings.stages:
            if missing and not (stage == "report" and missing == "retrain" and not settings.config.genotype):
                raise ConfigError(
                    f"stage {stage} needs {missing}, which is not finished in {settings.workdir}: "
                    f"name it in --config.stages too"
                )
            goal = max(goal, border) if units else goal
        elif done < border:
            missing = missing or stage
    return goal

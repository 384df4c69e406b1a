"""One command: finds out what is done and what is left to do, and does it."""

import contextlib
import io
from collections.abc import Callable

from darts_pt_jax import hosts, record
from darts_pt_jax.data import sources
from darts_pt_jax.data.images import Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config import rules, schema
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.config.versions import refuse_earlier
from darts_pt_jax.experiments.engine import directory, locks, machine
from darts_pt_jax.experiments.engine.failures import one_line
from darts_pt_jax.experiments.engine.interrupts import Interrupts
from darts_pt_jax.experiments.engine.run import Run
from darts_pt_jax.experiments.engine.screen import Screen
from darts_pt_jax.experiments.engine.sources import Source
from darts_pt_jax.experiments.engine.torch_source import TorchSource
from darts_pt_jax.experiments.engine.units import Unit
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.training import network
from darts_pt_jax.experiments.training.budgets import LIMITED, budget_of
from darts_pt_jax.experiments.training.checks import devices_of
from darts_pt_jax.experiments.training.network import chosen, written_genotype
from darts_pt_jax.experiments.training.supernet import Training
from darts_pt_jax.genotype import example
from darts_pt_jax.selection.budgets import Budget
from darts_pt_jax.spaces import SPACES


def execute(
    settings: Settings, pipeline: dict[str, list[Unit]], report: Callable[[Settings], str | None], stop: Interrupts
):
    """Runs the requested stages, starting from what earlier commands left.

    Args:
      settings: the command.
      pipeline: the units of every stage, in order.
      report: the stage "report", which has no units: `report(settings)` writes what is missing and returns a text for
        the screen, or None if nothing changed.
      stop: the signals that may interrupt.

    Raises:
      ConfigError, DataError: the settings do not fit the run directory or the data, or a stage needs another stage first.
      RunError: a unit failed.
      Interrupted: a signal asked to stop.
    """
    screen = Screen(None if hosts.first() else io.StringIO(), stop)
    if warning := machine.prepare(settings.config):
        screen.say(warning)
    if text := rules.unheeded(settings.config):
        screen.say(text)
    locks.refuse_if_locked(settings.workdir / "lock")
    before, done = hosts.of_first(progress(settings, pipeline))
    worked = done < goal(settings, pipeline, done)
    if worked:
        _work(settings, pipeline, before, screen, stop)
    if hosts.first():
        _finish(settings, report, screen, worked)


def _work(settings: Settings, pipeline: dict[str, list[Unit]], before: dict | None, screen: Screen, stop: Interrupts):
    """Carries out the units that are left to this command."""
    workdir, source = settings.workdir, Source.named(settings, before)
    images, devices, training, budget = _prepared(settings, source, screen)
    hosts.meet("ready")
    with record.writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    with locks.locked(workdir / "lock"):
        # again, since another process may have worked on it meanwhile
        before, _ = hosts.of_first(progress(settings, pipeline))
        if warning := directory.bind(settings, before, source and source.data_sha256, images, devices):
            screen.say(warning)
        hosts.meet("bound")
        with contextlib.closing(Run(settings, images, devices, training, source, budget, screen, stop)) as run:
            del training  # so that only the run holds it
            units = [unit for stage in pipeline.values() for unit in stage]
            with one_line("start", lambda: "lower supernet.channels or supernet.cells"):
                state = run.resume(units)
            screen.say("compiling: the first epoch and the first decisions take longer than the others")
            todo = units[run.done : goal(settings, pipeline, run.done)]
            with screen.showing(todo, run.timings.read()):
                run.carry_out(todo, state)


def _prepared(
    settings: Settings, source: Source | TorchSource | None, screen: Screen
) -> tuple[Images | Stream, Devices, Training | None, Budget | None]:
    """Loads the images, and builds the supernet unless the config names an architecture; checks that all fit."""
    config = settings.config
    if config.data.download and sources.find(config.data.source).downloads:
        screen.say("tensorflow-datasets downloads the data if they are not there yet")
    with one_line("start", lambda: "lower data.examples, data.size or supernet.channels"):
        devices = devices_of(config)
        images = _loaded(config)
        if "retrain" in settings.stages:
            check_retraining(settings, images, devices)
        budget = budget_of(config, images.image_shape, images.classes)
        training = None if config.genotype else Training(config, images, devices)
        if source and training:
            source.check(training)
    for note in (*images.notes, *(source.notes if source else ())):
        screen.say(note)
    return images, devices, training, budget


def _finish(settings: Settings, report: Callable[[Settings], str | None], screen: Screen, worked: bool):
    """Writes the report if it is requested, and says where the results are."""
    workdir = settings.workdir
    text = report(settings) if "report" in settings.stages else None
    if text:
        screen.show(text)
    names = ("report.md", "report.html", "drawings", "genotype.txt", "retrained.json", "network.safetensors")
    left = ", ".join(name for name in names if (workdir / name).exists())
    where = f"{workdir}: {left}" if "report.md" in left else workdir
    screen.say(f"{'' if worked or text else 'finished: '}the results are in {where}")


def progress(settings: Settings, pipeline: dict[str, list[Unit]]) -> tuple[dict | None, int]:
    """The content of run.json (None if no step is done), and the number of finished units.

    Raises:
      ConfigError: the run directory holds something else, or a run of another config.
      RunError: checkpoints are missing.
    """
    before = directory.stored(settings.workdir)
    position = directory.position(settings.workdir) if before else directory.beginning()
    done, begun = position["units"], bool(position["within"])
    if not done and not begun:
        return None, 0
    units = [(unit.stage, unit.type) for stage in pipeline.values() for unit in stage]
    free, retraining = set(schema.free_keys()), units.index(("retrain", "epoch"))
    if done + begun <= retraining:
        free |= schema.free_keys(["retrain"])
    elif settings.config.genotype:
        _refuse_another_architecture(settings)
    if ("select", "begin") in units:
        first = 1 + units.index(("select", "begin"))
        if done + begun <= first:
            free |= schema.free_keys(["select"])
        elif schema.limits(settings.config):
            free -= LIMITED
        if done + begun >= first:  # the unit `begin` has prepared the optimiser's state for this method
            free -= {"select.method"}
    directory.refuse_changes(settings, before["config"], free)
    if done < goal(settings, pipeline, done) and (done, begun) != (retraining, False):
        refuse_earlier(before, settings.workdir)
    return before, done


def _refuse_another_architecture(settings: Settings):
    """Compares the architecture that the config names with the one that the run has begun to train."""
    try:
        named = chosen(settings.config, settings.workdir)
    except ConfigError:  # the file is gone, but the run has a copy
        return
    if named != written_genotype(settings.workdir):
        raise ConfigError(
            f"genotype: {settings.config.genotype:.300} is another architecture than {settings.workdir} was begun with: "
            "set it back or name a new --workdir"
        )


def load_images(config: Config, download: bool = False) -> Images | Stream:
    """The images that the config names."""
    data = config.data
    return sources.load_images(data.source, data.path, data.size, data.examples, data.dir, download, data.crop)


def _loaded(config: Config) -> Images | Stream:
    """`load_images`; if the config downloads, the first host does so before the others read."""
    if not config.data.download:
        return load_images(config)
    images = load_images(config, True) if hosts.first() else None
    hosts.meet("downloaded")
    return load_images(config) if images is None else images


def check_retraining(settings: Settings, images: Images | Stream, devices: Devices):
    """Checks, before any work, that stage retrain can run.

    Raises:
      ConfigError, DataError: its settings do not fit the images or the cells.
    """
    config = settings.config
    genotype = chosen(config, settings.workdir) if config.genotype else example(SPACES[config.space])
    network.check(config, images, genotype, devices)


def goal(settings: Settings, pipeline: dict[str, list[Unit]], done: int) -> int:
    """The number of finished units after this command.

    Raises:
      ConfigError: a stage is requested before another stage that it needs.
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

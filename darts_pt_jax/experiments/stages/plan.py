"""`--plan`: what a command would do, and how much memory and disk it needs."""

import jax
import jax.extend
import jax.numpy as jnp

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.checkpoints import size_of
from darts_pt_jax.data.images import Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config import rules
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.engine.directory import checkpoints_kept
from darts_pt_jax.experiments.engine.execute import check_retraining, goal, load_images, progress
from darts_pt_jax.experiments.engine.sources import Source
from darts_pt_jax.experiments.engine.torch_source import TorchSource
from darts_pt_jax.experiments.engine.units import Unit
from darts_pt_jax.experiments.training.budgets import budget_of
from darts_pt_jax.experiments.training.checks import devices_of
from darts_pt_jax.experiments.training.network import Retraining, chosen
from darts_pt_jax.experiments.training.supernet import Training
from darts_pt_jax.selection import schedule
from darts_pt_jax.selection.methods import METHODS


def show(settings: Settings, pipeline: dict[str, list[Unit]]):
    """Prints stages, steps, images, and estimates of memory and disk.

    Raises:
      ConfigError, DataError, RunError: the command would be refused.
    """
    config = settings.config
    before, done = progress(settings, pipeline)
    devices, images = devices_of(config), load_images(config)
    for note in images.notes:
        print(note)
    if text := rules.unheeded(config):
        print(text)
    print(f"run directory  {settings.workdir}")
    print(f"devices        {devices}")
    print(f"done already   {done} of {goal(settings, pipeline, done)} units of work")
    if "retrain" in settings.stages:
        check_retraining(settings, images, devices)
    budget_of(config, images.image_shape, images.classes)  # refuses limits that no network keeps
    if not config.genotype:
        _show_supernet(settings, pipeline, Source.named(settings, before), Training(config, images, devices))
    if "retrain" in settings.stages:
        _show_retraining(settings, images, devices)
    if "report" in settings.stages:
        print("report         report.md, report.html, drawings")


def _show_supernet(
    settings: Settings, pipeline: dict[str, list[Unit]], source: Source | TorchSource | None, training: Training
):
    config = settings.config
    if source:
        source.check(training)
    state = training.abstract_state()
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    batch, steps = config.search.batch_size, training.steps
    tuning = sum(unit.type == "tuning epoch" for unit in pipeline["select"])
    decisions = sum(unit.type == "decision" for unit in pipeline["select"])
    per_score = (config.select.images or training.valid.size) // batch * batch
    print(f"data           {training.train.size} images for weights, {training.valid.size} for alphas and scores, "
          f"{'x'.join(map(str, training.image_shape))}, {training.net.classes} classes")  # fmt: skip
    print(f"supernet       {config.space}, {_count(config.supernet.cells, 'cell')}, {parameters:,} parameters")
    if source:
        print(f"               of {config.init_from} after epoch {source.epoch}")
    if "search" in settings.stages:
        epochs = config.search.epochs
        print(f"search         {_count(epochs, 'epoch')}, {_count(epochs * steps, 'step')} of {batch} images")
    if "select" in settings.stages:
        method, select = METHODS[config.select.method], config.select
        scored = ""
        if method.scores:
            scored = f" on {'at most ' * bool(select.race)}{per_score:,} images each"
        if select.order in schedule.MEASURED:
            scorings = select.orders * schedule.scorings(training.space, select.order)
            scored = f" by at most {_count(scorings, 'scoring')}{scored}"
        fewer = "at most " * (select.order == "certain")  # nothing is tuned where nothing was left to decide
        bound = "at most " if method.greedy and config.sgas.batch_increase else ""
        tunes = f"{fewer}{_count(tuning, 'tuning epoch')} of {bound}{_count(steps, 'step')}"
        what = f"{_count(decisions, 'decision')}{scored}, {tunes}"
        at_once = "all decisions at once" if method.values else "without images"
        print(f"select         {what if decisions else at_once}, by {method.name}")
    alphas = architecture.init_alphas(training.space, jax.random.key(0))
    undecided = architecture.undecided(training.space)

    def loss(variables, images):
        weights = architecture.edge_weights(training.space, alphas, undecided)
        labels = jnp.zeros(batch, jnp.int32)
        return bilevel.forward(training.net, variables, weights, images, labels, jax.random.key(0), True)[0].loss

    data = size_of(training.train) + size_of(training.valid)
    _show_needs(data, state, loss, (batch, *training.image_shape), config, training.devices)


def _show_retraining(settings: Settings, images: Images | Stream, devices: Devices):
    config, (train, test) = settings.config, images.sizes
    retrain = config.retrain
    named = Retraining(config, images, chosen(config, settings.workdir), devices) if config.genotype else None
    each = " a stage" * bool(named and named.net.form == "nasbench201")
    what = f"{_count(retrain.cells, 'cell')}{each} of {_count(retrain.channels, 'channel')}"
    if named:
        size = "x".join(map(str, images.image_shape))
        print(f"data           {train:,} images for training, {test:,} for testing, {size}, {images.classes} classes")
        what += f", {named.parameters:,} parameters, {named.multiply_adds / 1e6:,.1f} M multiply-adds an image"
    print(f"retrain        {what}, {_count(retrain.epochs, 'epoch')} of "
          f"{_count(train // retrain.batch_size, 'step')} of {retrain.batch_size} images; {test:,} test images")  # fmt: skip
    if named:
        rngs = dict.fromkeys(("dropout", "noise"), jax.random.key(0))

        def loss(variables, images):
            outputs, _ = named.net.apply(variables, images, True, 0.5, mutable=["batch_stats"], rngs=rngs)
            return sum(logits.mean() for logits in outputs if logits is not None)

        data = 0 if isinstance(images, Stream) else images.train_images.nbytes + images.test_images.nbytes
        _show_needs(data, named.abstract_state(), loss, (retrain.batch_size, *images.image_shape), config, devices)


def _show_needs(data: int, state, loss, batch_shape: tuple[int, ...], config: Config, devices: Devices):
    """Prints memory and disk; `loss(variables, images)` is the loss of a weight step on images of `batch_shape`."""
    checkpoint, kept = size_of(state), checkpoints_kept(config)
    needed = data + 2 * checkpoint + _residuals(state, loss, batch_shape) // devices.count
    cell = ", and those of the cell that is computed again" * config.remat
    print(f"memory         about {_human(needed)} on a device for data, state, and what one weight step keeps for its "
          f"gradient{cell}; on a CPU, the program and its compiler take some 3 GB besides")  # fmt: skip
    print(f"disk           about {_human(kept * checkpoint)} ({kept} checkpoints of {_human(checkpoint)})")


def _residuals(state, loss, batch_shape: tuple[int, ...]) -> int:
    """Bytes that the forward pass of a weight step keeps for the backward pass, without the compiler's savings."""

    def backward(params, images):
        stats = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state.batch_stats)
        return jax.vjp(lambda params: loss({"params": params, "batch_stats": stats}, images), params)[1]

    images = jax.ShapeDtypeStruct(batch_shape, jnp.float32)
    outputs = jax.make_jaxpr(backward)(state.params, images).jaxpr.outvars
    # a set: an array that several operations need counts once
    kept = {v for v in outputs if isinstance(v, jax.extend.core.Var)}
    return size_of([v.aval for v in kept])


def _human(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"

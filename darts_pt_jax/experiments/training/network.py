"""Training of a discrete network: jitted steps over epochs of images on the device."""

import functools
import math
import pathlib

import jax
import numpy as np

from darts_pt_jax import bilevel, network, supervised
from darts_pt_jax.data import feeds
from darts_pt_jax.data.images import DataError, Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.training.checks import check_channels, check_divides, check_side, recipe
from darts_pt_jax.experiments.training.loops import donated_to_weights, explained, summary
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop import published
from darts_pt_jax.interop.export import TrainedNetwork
from darts_pt_jax.loops import Begin
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.network import Network
from darts_pt_jax.spaces import darts_layout
from darts_pt_jax.supervised import RetrainState


def chosen(config: Config, directory: pathlib.Path) -> Genotype:
    """The architecture that the config names, or else the one that the selection has written.

    Raises:
      ConfigError: it is not an architecture.
    """
    try:
        return published.find(config.genotype) if config.genotype else written_genotype(directory)
    except ValueError as error:
        raise ConfigError(f"genotype: {str(error).removeprefix('genotype: ')}") from error


def written_genotype(directory: pathlib.Path) -> Genotype:
    """The architecture that a run has written."""
    return Genotype.from_json((directory / "genotype.json").read_text())


def discrete_network(config: Config, genotype: Genotype, classes: int) -> Network:
    """The network of an architecture as the config describes it, without auxiliary head.

    Raises:
      ValueError: the architecture has other cells than the network's form.
    """
    retrain = config.retrain
    form = network.form_of(genotype) if retrain.form == "auto" else retrain.form
    network.check(genotype, form)
    if form != "nasbench201" and set(darts_layout(retrain.cells)) != {"normal", "reduce"}:
        raise ValueError(f"retrain.cells is {retrain.cells}, expected at least 3, for normal cells and reduction cells")
    return Network(genotype, form, retrain.cells, retrain.channels, classes, dtype=jax.numpy.dtype(config.precision))


def check(config: Config, images: Images | Stream, genotype: Genotype, devices: Devices):
    """Checks the settings of retraining against images, devices, and an architecture.

    Before the selection, any architecture of the same cell kinds stands in for the final one.

    Raises:
      ConfigError, DataError: they do not fit.
    """
    retrain, (height, width, channels) = config.retrain, images.image_shape
    check_divides(devices, "retrain.batch_size", retrain.batch_size)
    try:
        net = discrete_network(config, genotype, images.classes)
    except ValueError as error:
        raise ConfigError(f"genotype: {error}") from error
    check_side(images.image_shape, 5 if net.form == "imagenet" else 2)
    check_channels(config, images)
    if retrain.batch_size > images.sizes[0]:
        raise DataError(f"retrain.batch_size is {retrain.batch_size}, but there are {images.sizes[0]} training images")
    if retrain.jitter and channels != 3:
        raise DataError(f"retrain.jitter needs RGB images, but these have {channels} channels: set it to ()")
    if retrain.cutout >= min(height, width):
        raise DataError(
            f"retrain.cutout is {retrain.cutout}, which blanks whole images of {height}x{width}: set it to half their side"
        )
    if not retrain.auxiliary:
        return
    if net.form == "nasbench201":
        raise ConfigError("retrain.auxiliary: the nasbench201 network has no auxiliary head: set it to 0")
    shrinks, needed = (32, 7) if net.form == "imagenet" else (4, 8)
    if (pixels := -(-min(height, width) // shrinks)) < needed:
        raise ConfigError(
            f"retrain.auxiliary: images of {height}x{width} leave the auxiliary head {pixels}x{pixels} pixels, it needs "
            f"{needed}x{needed}: set it to 0"
        )


class Retraining:
    """A discrete network with its data and its compiled programs; callers hold the state."""

    def __init__(self, config: Config, images: Images | Stream, genotype: Genotype, devices: Devices | None = None):
        """Builds the network for the images, by default on the host's first device; compiles nothing yet.

        Raises:
          ConfigError, DataError: the settings do not fit the images or the architecture.
        """
        self.devices = devices or Devices.here(1)
        check(config, images, genotype, self.devices)
        retrain = config.retrain
        self.config, self.genotype = config, genotype
        self.image_shape, self.sizes = images.image_shape, images.sizes
        self._fit, self._class_names = images.fit, images.class_names
        jitter = tuple(retrain.jitter)
        self.recipe = recipe(config, images, images.sizes[0], cutout=retrain.cutout, jitter=jitter)
        self._feed = feeds.feed(images, self.recipe, self.devices)
        net = discrete_network(config, genotype, images.classes)
        self.net = net.clone(auxiliary=retrain.auxiliary > 0, remat=config.remat)
        self.optimizer = bilevel.weight_optimizer(retrain.momentum, retrain.weight_decay, retrain.clip)
        self.parameters, self.multiply_adds = network.size(self.net, self.image_shape)
        gradient = supervised.make_gradient(self.net, retrain.auxiliary, retrain.label_smoothing)
        update = bilevel.guarded(bilevel.make_weight_update(self.optimizer), "params")
        evaluate = supervised.make_evaluate(self.net)

        def train_gradient(state, given, i, key, drop_path):
            augment_key, step_key = jax.random.split(jax.random.fold_in(key, i))
            images, labels = self._feed.batch(given, augment_key)
            return gradient(state, images, labels, step_key, drop_path)

        @functools.partial(self.devices.jit, donate_argnums=donated_to_weights(config, self.devices))
        def train_step(state, total, given, i, key, learning_rate, drop_path):
            return update(state, total, *train_gradient(state, given, i, key, drop_path), learning_rate)

        @self.devices.jit
        def test_step(state, total, given, counted, key):
            return total + evaluate(state.variables, *self._feed.batch(given, None), counted, key)

        self._train_step, self._test_step, self._gradient = train_step, test_step, self.devices.jit(train_gradient)

    def trained(self, state: RetrainState, epoch: int) -> TrainedNetwork:
        """The network to keep after `epoch` epochs, without auxiliary head."""
        params = {name: part for name, part in state.params.items() if name != "auxiliary"}
        stats = {name: part for name, part in state.batch_stats.items() if name != "auxiliary"}
        mean, std = (tuple(map(float, values)) for values in (self.recipe.mean, self.recipe.std))
        variables = {"params": params, "batch_stats": stats}
        net, plugins = self.net.clone(auxiliary=False, remat=False), tuple(filter(None, self.config.plugins.split(",")))
        return TrainedNetwork(
            net, variables, self.image_shape, mean, std, self._fit, epoch, plugins, self._class_names
        )  # fmt: skip

    def initial_state(self, key: jax.Array) -> RetrainState:
        """The state before the first step."""
        return self.devices.everywhere(supervised.init_state(self.net, key, self.image_shape, self.optimizer))

    def abstract_state(self) -> RetrainState:
        """The shapes of a state."""
        return self.devices.shapes(self.initial_state, jax.random.key(0))

    def epoch(
        self, state: RetrainState, key: jax.Array, learning_rate: float, drop_path: float, begin: Begin
    ) -> tuple[RetrainState, dict]:
        """A shuffled pass over the training set, without the images that do not fill a batch.

        Returns:
          The state, and train_loss and train_accuracy.
        """
        batch_size = self.config.retrain.batch_size
        order_key, step_key = jax.random.split(key)
        batch = self._feed.training(order_key, batch_size)

        def tensors(i, state):
            again = self._feed.training(order_key, batch_size)  # a stream has passed that batch already
            gradients, metrics, _ = self._gradient(state, again(i), i, step_key, drop_path)
            return [("the training loss", metrics.loss), ("the gradient", gradients)]

        total = self.devices.everywhere(Metrics.zero())
        loop = begin("training", state, total, self.sizes[0] // batch_size, batch_size)
        with explained(tensors, batch_size, "retrain.learning_rate"):
            for i in loop:
                loop.state, loop.total = self._train_step(
                    loop.state, loop.total, batch(i), i, step_key, learning_rate, drop_path
                )
        return loop.state, summary(loop.total, "train")

    def test(self, state: RetrainState, key: jax.Array, begin: Begin) -> dict:
        """test_loss and test_accuracy over all test images, with running statistics."""
        size, batch_size = self.sizes[1], self.config.retrain.batch_size
        batch = self._feed.testing(batch_size)
        total = self.devices.everywhere(Metrics.zero())
        loop = begin("test", state, total, math.ceil(size / batch_size), batch_size)
        for i in loop:
            counted = np.arange(i * batch_size, (i + 1) * batch_size) < size
            loop.total = self._test_step(state, loop.total, batch(i), counted, jax.random.fold_in(key, i))
        return summary(loop.total, "test")

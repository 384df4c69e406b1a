"""Training of the supernet: its data, its programs, and epochs of steps, for search and tuning."""

import copy
import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import bilevel, curvature
from darts_pt_jax.architecture import Alphas, Decisions
from darts_pt_jax.bilevel import Batch, SearchState
from darts_pt_jax.channels import AllChannels, PartialChannels
from darts_pt_jax.data import batches
from darts_pt_jax.data.batches import Dataset
from darts_pt_jax.data.images import Images
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.training.checks import check_batches, check_side, split
from darts_pt_jax.experiments.training.loops import donated, donated_to_weights, explained, summary
from darts_pt_jax.experiments.training.steps import Epoch, Steps
from darts_pt_jax.loops import Begin
from darts_pt_jax.metrics import Evaluate, Metrics
from darts_pt_jax.samplers import make_sampler
from darts_pt_jax.samplers.regularisers import REGULARISERS
from darts_pt_jax.selection import fisher, scoring, shapley, slopes
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.spaces import RESIDUAL_BLOCK, SPACES
from darts_pt_jax.supernet import Supernet


@dataclasses.dataclass(frozen=True)
class Regime:
    """The settings of an epoch.

    Attributes:
      learning_rate: learning rate of the weights.
      sampling: how to draw from the training half; the validation half is always drawn independently.
      batch_size: images in a batch of each half.
      progress: position in the schedule of the search, from 0 to 1, for sampler and regulariser.
      alphas: whether the alphas are trained too, if they learn at all.
    """

    learning_rate: float
    sampling: str
    batch_size: int
    progress: float
    alphas: bool = True


def supernet_of(config, classes: int) -> Supernet:
    """The supernet of a config."""
    size = config.supernet
    channels = AllChannels() if size.channel_share == 1 else PartialChannels(size.channel_share)
    return Supernet(
        SPACES[config.space], size.cells, size.channels, classes, jnp.dtype(config.precision), remat=config.remat,
        mixed_channels=channels,
    )  # fmt: skip


class Training:
    """A supernet with its two halves of data and its compiled programs; callers hold the state.

    Attributes:
      config: the config of the run.
      devices: the devices that compute everything.
      space: the search space.
      net: the supernet of `space`, or of a restricted one.
      sampler: makes edge weights from alphas.
      train, valid: the halves of the training set.
      image_shape: (H, W, C).
      weight_optimizer, alpha_optimizer: the optimisers.
      steps: number of steps in an epoch of the search.
      programs: the programs of a step.
    """

    def __init__(self, config, images: Images, devices: Devices | None = None):
        """Builds the supernet for the images, by default on the host's first device; compiles nothing yet."""
        search = config.search
        self.config, self.devices = config, devices or Devices.here(1)
        self.space = SPACES[config.space]
        self.sampler = make_sampler(search.sampler, vars(search), search.alpha == "learned")
        layout = self.space.layout(config.supernet.cells)
        if {"search", "select"} & set(config.stages.split(",")):
            check_batches(config, self.devices)
        check_side(
            images.image_shape, sum(kind == RESIDUAL_BLOCK or self.space.cells[kind].reduction for kind in layout)
        )
        self.train, self.valid = split(config, images, self.devices)
        self.image_shape = images.image_shape
        self.weight_optimizer = bilevel.weight_optimizer(search.momentum, search.weight_decay, search.clip)
        self.alpha_optimizer = bilevel.alpha_optimizer(search.alpha_learning_rate, search.alpha_weight_decay)
        self.steps = self.train.size // search.batch_size
        self._draw = {name: jax.jit(draw, static_argnums=(1, 2, 3)) for name, draw in batches.SAMPLING.items()}
        self._use(supernet_of(config, images.classes))

    def _use(self, net: Supernet):
        """Makes the programs of a supernet."""
        self.net = net
        self.scorer, self.slopes = functools.cache(self._scorer), functools.cache(self._slopes)
        self.measure, self.information = functools.cache(self._measure), functools.cache(self._information)
        optimizers = self.weight_optimizer, self.alpha_optimizer
        self.programs = Steps(
            net, self.sampler, self._penalty, self.config.search, self.devices, optimizers, self._scans(),
            donated(self.config), donated_to_weights(self.config, self.devices),
        )  # fmt: skip
        evaluate = bilevel.make_evaluate(net, batch_statistics=False, augment=False)

        def evaluation(state, total, batch):
            weights = self.sampler.weights(self.space, state.alphas, state.decisions)
            return total + Metrics.of_each(*evaluate(state.variables, weights, batch)).sum()

        gradient = bilevel.make_gradient(net, ("alphas",), self.sampler)

        def unaugmented(state, dataset: Dataset, indices, key):
            return gradient(state, Batch(*batches.batch(dataset, indices, None), key))

        self._evaluate = self.devices.jit(evaluation)
        self._product = self.devices.jit(curvature.make_product(unaugmented))

    @property
    def _penalty(self) -> Callable[[Alphas], jax.Array] | None:
        regulariser = REGULARISERS[self.config.search.alpha_regulariser]
        return functools.partial(regulariser.penalty, self.space) if regulariser else None

    def _penalty_weight(self, progress: float) -> float:
        regulariser = REGULARISERS[self.config.search.alpha_regulariser]
        return regulariser.weight(self.config.search.alpha_regulariser_weight, progress) if regulariser else 0.0

    def _scans(self) -> bool:
        if self.config.debug_nans:  # with a scan, jax would name the scan rather than the operation
            return False
        return {"auto": self.devices.platform == "tpu", "on": True, "off": False}[self.config.search.scan]

    def restricted(self, decisions: Decisions) -> "Training":
        """The same data with a smaller supernet, without the candidates that `decisions` exclude."""
        smaller = copy.copy(self)
        smaller._use(self.net.clone(space=self.space.restricted(decisions.candidates(self.space))))
        return smaller

    def initial_state(self, key: jax.Array) -> SearchState:
        """The state before the first step."""
        scale = 1e-3 if self.config.search.alpha_init == "noise" else 0.0
        optimizers = self.weight_optimizer, self.alpha_optimizer
        state = bilevel.init_state(self.net, key, self.image_shape, *optimizers, scale, self.sampler)
        return self.devices.everywhere(state)

    def abstract_state(self) -> SearchState:
        """The shapes of a state."""
        return self.devices.shapes(self.initial_state, jax.random.key(0))

    def indices(
        self, key: jax.Array, dataset: Dataset, sampling: str, steps: int, batch_size: int | None = None
    ) -> jax.Array:
        """int32 [steps, B], the images of an epoch's batches; B defaults to search.batch_size."""
        return self._draw[sampling](key, dataset.size, steps, batch_size or self.config.search.batch_size)

    @property
    def _evaluate_scored(self) -> Evaluate:
        """The supernet as selection looks at it."""
        select = self.config.select
        return bilevel.make_evaluate(self.net, select.bn == "batch", select.augment)

    def _place(self, *args):
        """Arguments of a program, of which the last is a batch (`bilevel.make_evaluate`), with the batch on the devices."""
        *others, (dataset, indices, key) = args
        return *others, (dataset, self.devices.split(indices), key)

    def _slopes(self, kind: str):
        """The compiled slopes of one cell kind (`slopes.make_slopes`)."""
        return self.devices.jit(slopes.make_slopes(self._evaluate_scored, kind), place=self._place)

    def _information(self):
        """The compiled Fisher information of all candidates (`fisher.make_information`)."""
        return self.devices.jit(fisher.make_information(self.net), place=self._place)

    def _measure(self):
        """The compiled look at the supernet under masks on all cell kinds (`shapley.make_measure`)."""
        return self.devices.jit(shapley.make_measure(self._evaluate_scored), place=self._place)

    def _scorer(self, kind: str):
        """The compiled scorer of one cell kind."""
        devices = self.for_scoring(kind)

        def place(variables, weights, masks, batch, *unmasked):
            dataset, indices, key = batch
            return variables, weights, devices.masks(masks), (dataset, devices.split(indices), key), *unmasked

        criteria = scoring.criteria_with(CRITERIA[self.config.select.criterion])
        return devices.jit(scoring.make_scorer(self._evaluate_scored, kind, criteria), place=place)

    def for_scoring(self, kind: str) -> Devices:
        """The devices, arranged for the scorer of a cell kind."""
        return self.devices.for_scoring(self._masks_of_call(kind), self.config.search.batch_size)

    def _masks_of_call(self, kind: str) -> int:
        every = self.space.cells[kind].width + 1
        return min(self.config.select.mask_batch or every, every)

    def masks(self, kind: str) -> int:
        """M, the number of masks in a call of a kind's scorer, by default those of an edge and the unmasked supernet.

        On several devices M may be rounded up, so that each device has the same number of masks.
        """
        return self.for_scoring(kind).filled(self._masks_of_call(kind))

    def fewer_masks(self, kind: str) -> int:
        """The number of masks in a call of a kind's scorer once half of them have left a race."""
        return self.for_scoring(kind).filled(-(-self.masks(kind) // 2))

    def epoch(self, state: SearchState, key: jax.Array, regime: Regime, begin: Begin) -> tuple[SearchState, dict]:
        """One epoch of bilevel steps: alphas on the validation half (if they learn), then weights on the training half.

        Args:
          state: the search state; consumed, its buffers are reused.
          key: key for images, augmentation and noise of the whole epoch.
          regime: the settings of the epoch.
          begin: begins the loop over the steps.

        Returns:
          The state, and train_loss and train_accuracy over the epoch's weight steps.

        Raises:
          FloatingPointError: a loss, gradient or alpha is not finite.
        """
        train_key, valid_key, step_key = jax.random.split(key, 3)
        batch_size, steps = regime.batch_size, self.train.size // regime.batch_size
        train = self.devices.split(self.indices(train_key, self.train, regime.sampling, steps, batch_size))
        valid = self.devices.split(self.indices(valid_key, self.valid, "independent", steps, batch_size))
        level, penalty = self.sampler.schedule(regime.progress), self._penalty_weight(regime.progress)
        learns = self.sampler.learns and regime.alphas
        epoch = Epoch(self.train, train, self.valid, valid, step_key, regime.learning_rate, level, penalty, learns)
        images = (2 if learns else 1) * batch_size
        count, per_step = (1, images * steps) if self.programs.scans else (steps, images)
        loop = begin("training", state, self.devices.everywhere(Metrics.zero()), count, per_step)
        with explained(lambda i, state: self.programs.tensors(i, state, epoch), batch_size, "search.learning_rate"):
            for i in loop:
                if self.programs.scans:
                    loop.state, loop.total = self.programs.epoch(loop.state, loop.total, epoch)
                else:
                    loop.state, loop.total = self.programs.step(i, loop.state, loop.total, epoch)
        return loop.state, summary(loop.total, "train")

    def validate(self, state: SearchState, key: jax.Array, begin: Begin) -> dict:
        """valid_loss and valid_accuracy on the validation half, with running statistics and without augmentation.

        Args:
          state: the search state.
          key: key for the random numbers of operations.
          begin: begins the loop over the batches.
        """
        batch_size = self.config.search.batch_size
        steps = (self.config.eval.images or self.valid.size) // batch_size
        loop = begin("validation", state, self.devices.everywhere(Metrics.zero()), steps, batch_size)
        for i in loop:
            indices = self.devices.split(np.arange(i * batch_size, (i + 1) * batch_size))
            loop.total = self._evaluate(state, loop.total, (self.valid, indices, jax.random.fold_in(key, i)))
        return summary(loop.total, "valid")

    def curvature(self, state: SearchState, key: jax.Array, images: int) -> float | None:
        """Largest eigenvalue of the Hessian of the mean loss in the alphas.

        Args:
          state: the search state.
          key: key for the random numbers of operations.
          images: number of images, the first of the validation half, unaugmented; each batch has its own statistics.
        """
        batch_size = self.config.search.batch_size
        count = images // batch_size
        parts = np.arange(count * batch_size).reshape(count, batch_size)

        def product(direction):
            keys = (jax.random.fold_in(key, i) for i in range(count))
            products = [
                self._product(state, direction, (self.valid, self.devices.split(part), part_key))
                for part, part_key in zip(parts, keys, strict=True)
            ]
            return jax.tree.map(lambda *values: sum(values) / count, *products)

        return curvature.dominant_eigenvalue(product, state.alphas)

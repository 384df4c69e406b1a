"""The supernet in training: jitted steps over epochs of images on the device, shared by search and tuning."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from darts_pt_jax import architecture, bilevel, curvature
from darts_pt_jax.architecture import Decisions
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.data import batches
from darts_pt_jax.data.batches import Dataset
from darts_pt_jax.data.images import Images
from darts_pt_jax.devices import Devices
from darts_pt_jax.methods.sdarts import PERTURBATIONS
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.selection import perturbation
from darts_pt_jax.spaces import RESIDUAL_BLOCK, SPACES
from darts_pt_jax.supernet import Supernet
from darts_pt_jax.unrolled import ALPHA_GRADIENTS
from experiments.training.checks import check_batches, check_side, split
from experiments.training.loops import donated, explained, summary
from experiments.training.programs import Programs


@dataclasses.dataclass(frozen=True)
class Regime:
    """What an epoch's steps are taken under.

    Attributes:
      learning_rate: of the weights.
      sampling: how the training half is drawn; the validation half is always drawn independently.
      batch_size: images of a batch of each half.
      epsilon: how far edge weights are perturbed (`methods.sdarts`).
    """

    learning_rate: float
    sampling: str
    batch_size: int
    epsilon: float


class Training:
    """A supernet with its two halves of data and its compiled programs; the state is passed in and out."""

    def __init__(self, config: ConfigDict, images: Images, devices: Devices | None = None):
        """Builds the supernet for the images, on a host's first device unless others are given; compiles nothing yet."""
        search = config.search
        self.config, self.devices = config, devices or Devices.here(1)
        self.space = SPACES[config.space]
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
        supernet, dtype = config.supernet, jnp.dtype(config.precision)
        net = Supernet(self.space, supernet.cells, supernet.channels, images.classes, dtype, remat=config.remat)
        self._compile(net)

    def _compile(self, net: Supernet):
        search, scans = self.config.search, self._scans()
        self.net = net
        self.scorer = functools.cache(self._scorer)
        jit = self.devices.jit
        self._evaluate = jit(self._evaluation(bilevel.make_evaluate(net, False, False)))
        self._programs, self._compiled = Programs(self.devices), set()
        program = (lambda function, **_: function) if scans else self._programs  # an epoch that scans is one program
        both = "params", "alphas"
        shared = search.gradients == "shared" and search.alpha == "learned"
        gradient = functools.cache(lambda *of: program(bilevel.make_gradient(net, *of)))
        if shared:
            gradient = functools.partial(lambda of_both, *_: of_both, gradient(*both))
        in_batches = (self.devices.batch, self.devices.batch, self.devices.whole)
        self._batch, self._gradient = program(_batch, out=in_batches), gradient("params")
        self._alpha_gradient = ALPHA_GRADIENTS[search.unrolled](
            gradient, program, momentum=search.momentum, weight_decay=search.weight_decay
        )
        self._perturb = PERTURBATIONS[search.perturb](net, program, scans)
        reused = {"donate_argnums": donated(self.config)}
        alpha_update = bilevel.make_alpha_update(self.alpha_optimizer)
        weight_update = bilevel.make_weight_update(self.weight_optimizer)
        self._alpha_update = program(bilevel.guarded(alpha_update, "alphas"), **reused)
        self._weight_update = program(bilevel.guarded(weight_update, "params"), **reused)
        self._epoch = jit(self._scanned, **reused)
        of_alphas = bilevel.make_gradient(net, "alphas")
        self._product = jit(curvature.make_product(lambda state, *batch: of_alphas(state, *_unaugmented(*batch))))

    def restricted(self, decisions: Decisions) -> "Training":
        """The same with a supernet without the candidates that `decisions` exclude."""
        other = copy.copy(self)
        other._compile(self.net.clone(space=self.space.restricted(decisions.candidates(self.space))))
        return other

    def initial_state(self, key: jax.Array) -> SearchState:
        """The state before the first step."""
        scale = 1e-3 if self.config.search.alpha_init == "noise" else 0.0
        return self.devices.everywhere(
            bilevel.init_state(self.net, key, self.image_shape, self.weight_optimizer, self.alpha_optimizer, scale)
        )

    def abstract_state(self) -> SearchState:
        """The shapes of a state."""
        return self.devices.shapes(self.initial_state, jax.random.key(0))

    def indices(
        self, key: jax.Array, dataset: Dataset, sampling: str, steps: int, batch_size: int | None = None
    ) -> jax.Array:
        """int32 [steps, B], the images of an epoch's batches; B is by default the config's."""
        return self._draw[sampling](key, dataset.size, steps, batch_size or self.config.search.batch_size)

    def _scorer(self, kind: str):
        """The compiled scorer of one cell kind."""
        select = self.config.select
        evaluate = bilevel.make_evaluate(self.net, select.bn == "batch", select.augment)
        on = self.for_scoring(kind)

        def place(variables, weights, masks, batch):
            dataset, indices, key = batch
            return variables, weights, on.masks(masks), (dataset, on.split(indices), key)

        return on.jit(perturbation.make_scorer(evaluate, kind), place=place)

    def for_scoring(self, kind: str) -> Devices:
        """The devices as they are arranged for a call of a kind's scorer."""
        return self.devices.for_scoring(self._masks_of_call(kind), self.config.search.batch_size)

    def _masks_of_call(self, kind: str) -> int:
        every = self.space.cells[kind].width + 1
        return min(self.config.select.mask_batch or every, every)

    def masks(self, kind: str) -> int:
        """M, how many masks a call of a kind's scorer evaluates: by default all of an edge and the unmasked supernet.

        On several devices it may be some more, so that each has as many.
        """
        return self.for_scoring(kind).filled(self._masks_of_call(kind))

    def epoch(self, state: SearchState, key: jax.Array, regime: Regime, fold) -> tuple[SearchState, dict]:
        """One epoch of bilevel steps: alphas on the validation half (unless fixed), then weights on the training half.

        Args:
          state: consumed; its buffers are reused.
          key: decides images, augmentation and noise of the whole epoch.
          regime: what the steps are taken under.
          fold: goes through the steps (`Run.fold`).

        Returns:
          The state, and train_loss and train_accuracy over the epoch's weight steps.

        Raises:
          FloatingPointError: a loss, gradient or alpha is not finite.
        """
        train_key, valid_key, step_key = jax.random.split(key, 3)
        batch_size, steps = regime.batch_size, self.train.size // regime.batch_size
        train = self.devices.split(self.indices(train_key, self.train, regime.sampling, steps, batch_size))
        valid = self.devices.split(self.indices(valid_key, self.valid, "independent", steps, batch_size))
        images = (2 if self.config.search.alpha == "learned" else 1) * batch_size
        args = self.train, train, self.valid, valid, step_key, regime.learning_rate, regime.epsilon
        if self._scans():
            step, steps, images = lambda i, state, total: self._epoch(state, total, *args), 1, images * steps
        else:
            step = lambda i, state, total: self.step(i, state, total, *args)  # noqa: E731
        tensors = lambda i, state: self._tensors(i, state, *args)  # noqa: E731
        with explained(tensors, batch_size, "search.learning_rate"):
            state, total = fold("training", step, state, Metrics.zero(), steps, images)
        return state, summary(total, "train")

    def step(self, i, state: SearchState, total: Metrics, train, train_indices, *args) -> tuple[SearchState, Metrics]:
        """Bilevel step `i` of an epoch, whose images are `train_indices` and `valid_indices` [steps, B].

        The first of a batch size compiles all its programs before it runs any.
        """
        args, batch_size = (i, state, total, train, train_indices, *args), train_indices.shape[-1]
        if not (batch_size in self._compiled or self._scans()):
            with self._programs.side_by_side():
                self._step(*args)
            self._compiled.add(batch_size)
        return self._step(*args)

    def _step(
        self, i, state, total, train, train_indices, valid, valid_indices, key, learning_rate, epsilon
    ) -> tuple[SearchState, Metrics]:
        alpha_key, weight_key, perturb_key = jax.random.split(jax.random.fold_in(key, i), 3)
        batch = self._batch(train, train_indices, i, weight_key)
        if self.config.search.alpha == "learned":
            valid_batch = self._batch(valid, valid_indices, i, alpha_key)
            gradients, _, stats = self._alpha_gradient(state, batch, valid_batch, learning_rate)
            state, total = self._alpha_update(state, total, gradients, Metrics.zero(), stats)
        batch = self._perturb(state, batch, perturb_key, epsilon)
        return self._weight_update(state, total, *self._gradient(state, *batch), learning_rate)

    def _tensors(self, i, state, *args) -> list:
        """Loss and gradients of step `i`, by name."""
        looking, names = copy.copy(self), ("the training loss", "the gradient")

        def step(state, *args):
            found = []

            def look(of):
                def update(state, total, gradients, metrics, *_):
                    found.append((metrics.loss, {of: gradients[of]}))
                    return state, total

                return update

            looking._alpha_update, looking._weight_update = look("alphas"), look("params")
            looking._step(i, state, Metrics.zero(), *args)
            return found

        step = self.devices.jit(step) if self._scans() else step
        return [named for of_half in step(state, *args) for named in zip(names, of_half, strict=True)]

    def _scanned(self, state, total, *args):
        def body(carry, i):
            return self._step(i, *carry, *args), None

        return jax.lax.scan(body, (state, total), jnp.arange(args[1].shape[0]))[0]

    def _scans(self) -> bool:
        if self.config.debug_nans:  # which would stop at the scan
            return False
        return {"auto": jax.default_backend() == "tpu", "on": True, "off": False}[self.config.search.scan]

    def validate(self, state: SearchState, key: jax.Array, fold) -> dict:
        """valid_loss and valid_accuracy on the validation half: running statistics, no augmentation.

        `key` is for operations that draw noise; `fold` goes through the batches.
        """
        batch_size = self.config.search.batch_size

        def step(i, state, total):
            indices = self.devices.split(np.arange(i * batch_size, (i + 1) * batch_size))
            batch = self.valid, indices, jax.random.fold_in(key, i)
            return state, self._evaluate(state, total, batch)

        steps = (self.config.eval.images or self.valid.size) // batch_size
        return summary(fold("validation", step, state, Metrics.zero(), steps, batch_size)[1], "valid")

    def curvature(self, state: SearchState, key: jax.Array, images: int) -> float | None:
        """Largest eigenvalue of the Hessian in the alphas of the mean loss over the first images of the validation half.

        Over so many unaugmented `images`, by batches, each with its own statistics; `key` is as in `validate`.
        """
        batch_size = self.config.search.batch_size
        count = images // batch_size
        parts = np.arange(count * batch_size).reshape(count, batch_size)

        def product(direction):
            keys = (jax.random.fold_in(key, i) for i in range(count))
            of_batches = [
                self._product(state, direction, (self.valid, self.devices.split(part), of_part))
                for part, of_part in zip(parts, keys, strict=True)
            ]
            return jax.tree.map(lambda *images: sum(images) / count, *of_batches)

        return curvature.dominant_eigenvalue(product, state.alphas)

    def _evaluation(self, evaluate):
        def evaluation(state, total, batch):
            weights = architecture.edge_weights(self.space, state.alphas, state.decisions)
            return total + evaluate(state.variables, weights, batch)[0]

        return evaluation


def _batch(dataset: Dataset, indices: jax.Array, i, key: jax.Array):
    augment_key, noise_key = jax.random.split(key)
    return *batches.batch(dataset, indices[i], augment_key), noise_key


def _unaugmented(dataset: Dataset, indices: jax.Array, key: jax.Array):
    return *batches.batch(dataset, indices, None), key

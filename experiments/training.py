"""The supernet in training: jitted steps over epochs of images on the device, shared by search and tuning."""

import concurrent.futures
import copy
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from darts_pt_jax import architecture, bilevel
from darts_pt_jax.architecture import Decisions
from darts_pt_jax.bilevel import Metrics, SearchState
from darts_pt_jax.data import batches
from darts_pt_jax.data.batches import Dataset
from darts_pt_jax.data.sources import DataError, Images
from darts_pt_jax.selection import perturbation
from darts_pt_jax.spaces import SPACES
from darts_pt_jax.supernet import Supernet


def split(config: ConfigDict, images: Images) -> tuple[Dataset, Dataset]:
    """The halves of the training set, in the given order: for the weights, and for alphas and scores (DARTS, section 3.1).

    Raises:
      DataError: a half has fewer images than a batch, or the settings do not fit the images.
    """
    data, count = config.data, len(images.train_images)
    border = int(data.train_fraction * count)
    smallest = min(border, count - border)
    if smallest < config.search.batch_size:
        raise DataError(
            f"search.batch_size is {config.search.batch_size}, but a part of the training set has {smallest} images"
        )
    for key in ("select.images", "eval.images"):
        section, name = key.split(".")
        wanted = config[section][name]
        if wanted and not config.search.batch_size <= wanted <= count - border:
            raise DataError(
                f"{key} is {wanted}, expected 0 or from search.batch_size ({config.search.batch_size}) to {count - border}"
            )
    seen, needed = (set(labels.tolist()) for labels in np.split(images.train_labels, [border]))
    if missing := sorted(needed - seen):
        raise DataError(
            f"data: the first {border} images train the weights, but none of them has class {missing[0]}: shuffle the file"
        )
    if data.mean and {len(data.mean), len(data.std)} != {images.train_images.shape[-1]}:
        raise DataError(
            f"data.mean and data.std need one number per channel, the images have {images.train_images.shape[-1]}"
        )
    mean, std = (data.mean, data.std) if data.mean else batches.statistics(images.train_images[:border])
    halves = []
    for part in (slice(0, border), slice(border, count)):
        halves.append(
            Dataset(
                images=jax.device_put(images.train_images[part]),
                labels=jax.device_put(images.train_labels[part]),
                mean=np.asarray(mean, np.float32),
                std=np.asarray(std, np.float32),
                pad=images.pad if data.pad < 0 else data.pad,
                flip=images.flip if data.flip == "default" else data.flip == "on",
            )
        )
    return halves[0], halves[1]


class Training:
    """A supernet with its two halves of data and its compiled programs; the state is passed in and out."""

    def __init__(self, config: ConfigDict, images: Images):
        """Builds the supernet for the images; compiles nothing yet."""
        search = config.search
        self.config = config
        self.space = SPACES[config.space]
        self.train, self.valid = split(config, images)
        self.image_shape = images.train_images.shape[1:]
        self.weight_optimizer = bilevel.weight_optimizer(search.momentum, search.weight_decay, search.clip)
        self.alpha_optimizer = bilevel.alpha_optimizer(search.alpha_learning_rate, search.alpha_weight_decay)
        self.steps = self.train.size // search.batch_size
        self._draw = {name: jax.jit(draw, static_argnums=(1, 2, 3)) for name, draw in batches.SAMPLING.items()}
        supernet, dtype = config.supernet, jnp.dtype(config.precision)
        self._compile(Supernet(self.space, supernet.cells, supernet.channels, images.classes, dtype))

    def _compile(self, net: Supernet):
        self.net = net
        self.scorer = functools.cache(self._scorer)
        self._evaluate = jax.jit(self._evaluation(bilevel.make_evaluate(net, False, False)))
        updates = {
            "alphas": _counted(bilevel.make_alpha_update(self.alpha_optimizer)),
            "params": _counted(bilevel.make_weight_update(self.weight_optimizer)),
        }
        shared = self.config.search.gradients == "shared" and self.config.search.alpha == "learned"
        both, draw = jax.jit(bilevel.make_gradient(net, *updates)), jax.jit(_batch)
        gradients = {of: both if shared else jax.jit(bilevel.make_gradient(net, of)) for of in updates}
        self._parts = {of: (draw, gradients[of], jax.jit(u, donate_argnums=0)) for of, u in updates.items()}
        self._alpha_step, self._weight_step = (_composed(*parts) for parts in self._parts.values())
        self._compiled = False
        self._epoch = jax.jit(self._scanned, donate_argnums=0)

    def restricted(self, decisions: Decisions) -> "Training":
        """The same with a supernet without the candidates that `decisions` exclude."""
        other = copy.copy(self)
        other._compile(self.net.clone(space=self.space.restricted(decisions.candidates(self.space))))
        return other

    def initial_state(self, key: jax.Array) -> SearchState:
        """The state before the first step."""
        scale = 1e-3 if self.config.search.alpha_init == "noise" else 0.0
        return bilevel.init_state(self.net, key, self.image_shape, self.weight_optimizer, self.alpha_optimizer, scale)

    def abstract_state(self) -> SearchState:
        """The shapes of a state."""
        return jax.eval_shape(self.initial_state, jax.random.key(0))

    def indices(self, key: jax.Array, dataset: Dataset, sampling: str, steps: int) -> jax.Array:
        """int32 [steps, B], the images of an epoch's batches."""
        return self._draw[sampling](key, dataset.size, steps, self.config.search.batch_size)

    def _scorer(self, kind: str):
        """The compiled scorer of one cell kind."""
        select = self.config.select
        evaluate = bilevel.make_evaluate(self.net, select.bn == "batch", select.augment)
        return jax.jit(perturbation.make_scorer(evaluate, kind))

    def masks(self, kind: str) -> int:
        """M, how many masks a call of a kind's scorer evaluates: by default all of an edge and the unmasked supernet."""
        every = self.space.cells[kind].width + 1
        return min(self.config.select.mask_batch or every, every)

    def epoch(
        self, state: SearchState, key: jax.Array, learning_rate: float, sampling: str, fold
    ) -> tuple[SearchState, dict]:
        """One epoch of bilevel steps: alphas on the validation half (unless fixed), then weights on the training half.

        Args:
          state: consumed; its buffers are reused.
          key: decides images, augmentation and noise of the whole epoch.
          learning_rate: of the weights.
          sampling: how the training half is drawn; the validation half is always drawn independently.
          fold: goes through the steps (`Run.fold`).

        Returns:
          The state, and train_loss and train_accuracy over the epoch's weight steps.

        Raises:
          FloatingPointError: the loss is not finite.
        """
        train_key, valid_key, step_key = jax.random.split(key, 3)
        train = self.indices(train_key, self.train, sampling, self.steps)
        valid = self.indices(valid_key, self.valid, "independent", self.steps)
        passes = 2 if self.config.search.alpha == "learned" else 1
        images = passes * self.config.search.batch_size
        args = self.train, train, self.valid, valid, step_key, learning_rate
        if self._scans():
            step, steps, images = lambda i, state, total: self._epoch(state, total, *args), 1, images * self.steps
        else:
            step, steps = lambda i, state, total: self.step(i, state, total, *args), self.steps
        state, total = fold("training", step, state, Metrics.zero(), steps, images)
        return state, _summary(total, "train")

    def step(
        self, i, state: SearchState, total: Metrics, train, train_indices, valid, valid_indices, key, learning_rate
    ):
        """Bilevel step `i` of an epoch, whose images are `train_indices` and `valid_indices` [steps, B]."""
        alpha_key, weight_key = jax.random.split(jax.random.fold_in(key, i))
        weight_args = total, train, train_indices, i, weight_key, learning_rate
        alpha_args = Metrics.zero(), valid, valid_indices, i, alpha_key
        learned = self.config.search.alpha == "learned"
        if not (self._compiled or self._scans()):
            self._compile_parts(state, {"params": weight_args} | ({"alphas": alpha_args} if learned else {}))
        if learned:
            state, _ = self._alpha_step(state, *alpha_args)
        return self._weight_step(state, *weight_args)

    def _compile_parts(self, state: SearchState, args: dict[str, tuple]):
        """Compiles what the steps are made of side by side, or reads it from the cache, while the next is traced."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            compiling = []

            def compiled(function, *args):
                traced = function.trace(*args)
                compiling.append(pool.submit(traced.lower().compile))
                return traced.out_info

            for of, (total, dataset, indices, i, key, *more) in args.items():
                draw, gradient, update = self._parts[of]
                batch = compiled(draw, dataset, indices, i, key)
                compiled(update, state, total, *compiled(gradient, state, *batch), *more)
            for program in compiling:
                program.result()
        self._compiled = True

    def _scanned(self, state, total, *args):
        def body(carry, i):
            return self.step(i, *carry, *args), None

        return jax.lax.scan(body, (state, total), jnp.arange(self.steps))[0]

    def _scans(self) -> bool:
        on_accelerator = jax.default_backend() != "cpu"
        return {"auto": on_accelerator, "on": True, "off": False}[self.config.search.scan]

    def validate(self, state: SearchState, key: jax.Array, fold) -> dict:
        """valid_loss and valid_accuracy on the validation half: running statistics, no augmentation.

        `key` is for operations that draw noise; `fold` goes through the batches.
        """
        batch_size = self.config.search.batch_size

        def step(i, state, total):
            batch = self.valid, np.arange(i * batch_size, (i + 1) * batch_size), jax.random.fold_in(key, i)
            return state, self._evaluate(state, total, batch)

        steps = (self.config.eval.images or self.valid.size) // batch_size
        return _summary(fold("validation", step, state, Metrics.zero(), steps, batch_size)[1], "valid")

    def _evaluation(self, evaluate):
        def evaluation(state, total, batch):
            weights = architecture.edge_weights(self.space, state.alphas, state.decisions)
            return total + evaluate(state.variables, weights, batch)

        return evaluation


def _summary(total: Metrics, name: str) -> dict:
    loss, correct, images = (x.item() for x in jax.device_get((total.loss, total.correct, total.images)))
    if not math.isfinite(loss):
        raise FloatingPointError(f"{name}_loss is {loss}: lower search.learning_rate, or look at the data")
    return {f"{name}_loss": loss / images, f"{name}_accuracy": 100 * correct / images}


def _batch(dataset: Dataset, indices: jax.Array, i, key: jax.Array):
    augment_key, noise_key = jax.random.split(key)
    return *batches.batch(dataset, indices[i], augment_key), noise_key


def _counted(update):
    """An update that also adds the metrics of its batch to a total."""
    return lambda state, total, gradients, metrics, stats, *args: (
        update(state, gradients, stats, *args),
        total + metrics,
    )


def _composed(draw, gradient, update):
    """A step from its parts, each compiled apart: XLA:CPU reads several small programs sooner than a large one."""

    def step(state, total, dataset, indices, i, key, *args):
        batch = draw(dataset, indices, i, key)
        return update(state, total, *gradient(state, *batch), *args)

    return step

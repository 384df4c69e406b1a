"""Bilevel steps of a supernet: the programs of a step, and how an epoch runs them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from darts_pt_jax import bilevel
from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.bilevel import Batch, Draw, SearchState
from darts_pt_jax.data import batches
from darts_pt_jax.data.batches import Dataset
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.training.programs import Programs
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.samplers import Sampler
from darts_pt_jax.supernet import Supernet
from darts_pt_jax.unrolled import ALPHA_GRADIENTS


@flax.struct.dataclass
class Epoch:
    """The inputs of an epoch's steps.

    Attributes:
      train, valid: the halves of the training set, for weights and for alphas.
      train_indices, valid_indices: int [steps, B], the images of every step.
      key: key for all random numbers of the epoch.
      learning_rate: learning rate of the weights.
      level: level of the sampler's schedule.
      penalty_weight: weight of the alphas' regulariser.
      learns: whether the alphas are trained too; the programs of the two cases differ.
    """

    train: Dataset
    train_indices: jax.Array
    valid: Dataset
    valid_indices: jax.Array
    key: jax.Array
    learning_rate: jax.Array | float
    level: jax.Array | float
    penalty_weight: jax.Array | float = 0.0
    learns: bool = flax.struct.field(pytree_node=False, default=True)


class Updates(NamedTuple):
    """Guarded updates (`bilevel.guarded`) of alphas and weights."""

    alphas: Callable
    weights: Callable


class Steps:
    """The programs of a step, compiled separately, or a single program for a whole epoch.

    Attributes:
      scans: whether it is a single program.
    """

    def __init__(
        self, net: Supernet, sampler: Sampler, penalty: Callable | None, search, devices: Devices,
        optimizers: tuple, scans: bool, donated: tuple[int, ...], to_weights: tuple[int, ...],
    ):  # fmt: skip
        """Compiles nothing yet.

        Args:
          net: the supernet.
          sampler: makes edge weights from alphas.
          penalty: regulariser of the alphas, `penalty(alphas)`, or None.
          search: section `search` of the config.
          devices: the devices that compute the steps.
          optimizers: the optimisers of weights and alphas.
          scans: whether an epoch is one program.
          donated: positions of the arguments that an epoch and an update of alphas consume.
          to_weights: those that an update of weights consumes.
        """
        self._sampler, self._devices, self.scans = sampler, devices, scans
        self._programs, self._compiled = Programs(devices), set()
        program = _uncompiled if scans else self._programs
        weight_optimizer, alpha_optimizer = optimizers

        @functools.cache
        def made(names: tuple[str, ...]):
            return program(bilevel.make_gradient(net, names, sampler))

        def gradient(*names: str):
            return made(("params", "alphas") if search.gradients == "shared" and sampler.learns else names)

        self._batch = program(_batch, out=Batch(devices.batch, devices.batch, devices.whole))
        self._gradient = gradient("params")
        self._alpha_gradient = ALPHA_GRADIENTS[search.unrolled](
            gradient, program, momentum=search.momentum, weight_decay=search.weight_decay
        )
        self._perturb = _perturbation(net, sampler, program, scans)
        self._update_sampler = program(_sampler_update(sampler)) if sampler.update_state else None
        alpha_update = bilevel.guarded(bilevel.make_alpha_update(alpha_optimizer, penalty), "alphas")
        weight_update = bilevel.guarded(bilevel.make_weight_update(weight_optimizer), "params")
        alpha_update = program(alpha_update, donate_argnums=donated)
        self._updates = Updates(alpha_update, program(weight_update, donate_argnums=to_weights))
        self._epoch = devices.jit(self._scanned, donate_argnums=donated)

    def step(self, i, state: SearchState, total: Metrics, epoch: Epoch) -> tuple[SearchState, Metrics]:
        """Bilevel step `i` of an epoch; the first of its kind compiles all its programs before it runs any."""
        programs = epoch.train_indices.shape[-1], epoch.learns
        if not (programs in self._compiled or self.scans):
            with self._programs.compiling():
                self._step(i, state, total, epoch, self._updates)
            self._compiled.add(programs)
        return self._step(i, state, total, epoch, self._updates)

    def epoch(self, state: SearchState, total: Metrics, epoch: Epoch) -> tuple[SearchState, Metrics]:
        """All steps of an epoch as one program."""
        return self._epoch(state, total, epoch)

    def _step(self, i, state, total, epoch: Epoch, updates: Updates) -> tuple[SearchState, Metrics]:
        alpha_key, weight_key, sample_key = jax.random.split(jax.random.fold_in(epoch.key, i), 3)
        batch = self._batch(epoch.train, epoch.train_indices, i, weight_key)
        if self._sampler.learns and epoch.learns:
            valid = self._batch(epoch.valid, epoch.valid_indices, i, alpha_key)
            draw = Draw(jax.random.fold_in(sample_key, 1), epoch.level) if self._sampler.sample else None
            gradients, _, stats = self._alpha_gradient(state, batch, valid, epoch.learning_rate, draw)
            state, total = updates.alphas(state, total, gradients, Metrics.zero(), stats, epoch.penalty_weight)
        weights, draw = None, None
        if self._perturb:
            weights = self._perturb(state, batch, sample_key, epoch.level)
        elif self._sampler.sample:
            draw = Draw(sample_key, epoch.level)
        state, total = updates.weights(state, total, *self._gradient(state, batch, weights, draw), epoch.learning_rate)
        if self._update_sampler:
            state = self._update_sampler(state, total, sample_key, epoch.level)
        return state, total

    def _scanned(self, state, total, epoch: Epoch):
        def body(carry, i):
            return self._step(i, *carry, epoch, self._updates), None

        return jax.lax.scan(body, (state, total), jnp.arange(epoch.train_indices.shape[0]))[0]

    def tensors(self, i, state: SearchState, epoch: Epoch) -> list[tuple[str, object]]:
        """Loss and gradients of step `i`, by name."""

        def look(state):
            found = []

            def recorder(name):
                def update(state, total, gradients, metrics, *_):
                    found.append((metrics.loss, {name: gradients[name]}))
                    return state, total

                return update

            self._step(i, state, Metrics.zero(), epoch, Updates(recorder("alphas"), recorder("params")))
            return found

        found = self._devices.jit(look)(state) if self.scans else look(state)
        return [named for half in found for named in zip(("the training loss", "the gradient"), half, strict=True)]


def _uncompiled(function: Callable, **_) -> Callable:
    """The function itself, to become a part of a larger program."""
    return function


def _batch(dataset: Dataset, indices: jax.Array, i, key: jax.Array) -> Batch:
    augment_key, noise_key = jax.random.split(key)
    return Batch(*batches.batch(dataset, indices[i], augment_key), noise_key)


def _sampler_update(sampler: Sampler) -> Callable[..., SearchState]:
    """`update(state, total, key, level)`: the sampler's state after a step, unless the step was not finite."""

    def update(state: SearchState, total: Metrics, key: jax.Array, level) -> SearchState:
        after = sampler.update_state(state.sampler, state.alphas, key, level)
        kept = jax.tree.map(lambda new, old: jnp.where(jnp.isnan(total.loss), old, new), after, state.sampler)
        return state.replace(sampler=kept)

    return update


def _perturbation(net: Supernet, sampler: Sampler, program: Callable, scans: bool) -> Callable[..., EdgeWeights] | None:
    """`perturb(state, batch, key, level)` of the sampler, if it perturbs weight steps."""

    def loss(weights, state, batch: Batch):
        images, labels, noise_key = batch.images, batch.labels, batch.noise_key
        return bilevel.forward(net, state.variables, weights, images, labels, noise_key, False)[0].loss

    return sampler.perturb(net.space, loss, program, scans) if sampler.perturb else None

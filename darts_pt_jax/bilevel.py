"""Bilevel training of the supernet: weights on one half of the training set, alphas on the other (paper, equation 1)."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from darts_pt_jax import architecture, kernels
from darts_pt_jax.architecture import Alphas, Decisions, EdgeWeights
from darts_pt_jax.data import batches
from darts_pt_jax.metrics import Evaluate, Gradient, Metrics, Update
from darts_pt_jax.samplers.base import Sampler
from darts_pt_jax.supernet import Supernet


class SearchState(flax.struct.PyTreeNode):
    """Everything that training and selection change. A checkpoint is this value.

    Attributes:
      params: the supernet's weights, named by cell and operation (`spaces.Group`).
      batch_stats: BatchNorm's running statistics.
      alphas: architecture parameters, float32 [E, O] by cell kind.
      weight_optimizer: state of `weight_optimizer`.
      alpha_optimizer: state of `alpha_optimizer`.
      decisions: what selection has fixed.
      sampler: the sampler's state, a pytree; most samplers have none.
    """

    params: dict
    batch_stats: dict
    alphas: Alphas
    weight_optimizer: optax.OptState
    alpha_optimizer: optax.OptState
    decisions: Decisions
    sampler: Any = ()

    @property
    def variables(self) -> dict:
        """The supernet's variables as Flax takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


@flax.struct.dataclass
class Batch:
    """A batch of a training step.

    Attributes:
      images: float32 [B, H, W, C], augmented and normalised.
      labels: int32 [B].
      noise_key: key for the random numbers of operations.
    """

    images: jax.Array
    labels: jax.Array
    noise_key: jax.Array


@flax.struct.dataclass
class Draw:
    """The inputs of a sampler's draw: a key, and the level of its schedule."""

    key: jax.Array
    level: jax.Array | float


def weight_optimizer(
    momentum: float = 0.9, weight_decay: float = 3e-4, clip: float = 5.0
) -> optax.GradientTransformation:
    """SGD for the weights without the learning rate: clipping by global norm, coupled decay, momentum (DARTS, 3.1)."""
    return optax.chain(optax.clip_by_global_norm(clip), optax.add_decayed_weights(weight_decay), optax.trace(momentum))


def alpha_optimizer(learning_rate: float = 3e-4, weight_decay: float = 1e-3) -> optax.GradientTransformation:
    """Adam for the alphas, with coupled decay and betas (0.5, 0.999) (DARTS, section 3.1)."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1=0.5, b2=0.999))


def init_state(
    net: Supernet,
    key: jax.Array,
    image_shape: tuple[int, int, int],
    weights: optax.GradientTransformation,
    alphas: optax.GradientTransformation,
    alpha_scale: float = 1e-3,
    sampler: Sampler = Sampler(),  # noqa: B008
) -> SearchState:
    """A fresh state for images of `image_shape` [H, W, C].

    Args:
      net: the supernet.
      key: key for weights and alphas.
      image_shape: (H, W, C).
      weights: the optimiser of the weights.
      alphas: the optimiser of the alphas.
      alpha_scale: standard deviation of the initial alphas.
      sampler: makes the alphas and the sampler's state.
    """
    weight_key, alpha_key = jax.random.split(key)
    initial_alphas = sampler.init(net.space, alpha_key, alpha_scale)
    decisions = architecture.undecided(net.space)
    edge_weights = sampler.weights(net.space, initial_alphas, decisions)
    rngs = {"params": weight_key, "noise": weight_key}
    variables = net.init(rngs, jnp.zeros((1, *image_shape)), edge_weights, batch_statistics=True)
    params = variables["params"]
    return SearchState(
        params, variables["batch_stats"], initial_alphas, weights.init(params), alphas.init(initial_alphas), decisions,
        sampler.init_state(net.space),
    )  # fmt: skip


def forward(
    net: Supernet,
    variables: dict,
    edge_weights: EdgeWeights,
    images: jax.Array,
    labels: jax.Array,
    noise_key: jax.Array,
    batch_statistics: bool,
) -> tuple[Metrics, dict]:
    """Runs a batch through the supernet.

    Returns:
      The metrics, summed over the batch, and the updated running statistics.
    """
    logits, stats = _pass(net, variables, edge_weights, images, noise_key, batch_statistics)
    return Metrics.of_each(logits, labels).sum(), stats


def _pass(net, variables, edge_weights, images, noise_key, batch_statistics) -> tuple[jax.Array, dict]:
    """Logits [B, classes], and the updated running statistics."""
    logits, updated = net.apply(
        variables, images, edge_weights, batch_statistics, mutable=["batch_stats"], rngs={"noise": noise_key}
    )
    return logits, updated["batch_stats"]


def make_evaluate(net: Supernet, batch_statistics: bool, augment: bool) -> Evaluate:
    """An `Evaluate` for a `Supernet`; its batch is (`Dataset`, image indices [B], key for augmentation and noise).

    It does not update the running statistics.
    """

    def evaluate(variables: dict, edge_weights: EdgeWeights, batch) -> tuple[jax.Array, jax.Array]:
        dataset, indices, key = batch
        augment_key, noise_key = jax.random.split(key)
        images, labels = batches.batch(dataset, indices, augment_key if augment else None)
        return _pass(net, variables, edge_weights, images, noise_key, batch_statistics)[0], labels

    return evaluate


def make_gradient(
    net: Supernet,
    names: tuple[str, ...],
    sampler: Sampler = Sampler(),  # noqa: B008
) -> Gradient:
    """The gradient of the mean loss over a batch: `gradient(state, batch, edge_weights=None, draw=None)`.

    A gradient in both weights and alphas serves alpha steps and weight steps and halves the compilation; a gradient in
    one of them computes less. The pass uses a sample of `draw` if that is given, else `edge_weights` if they are given,
    else the sampler's mean.

    Args:
      net: the supernet.
      names: what to differentiate in: "params", "alphas", or both.
      sampler: makes edge weights from the alphas.
    """

    def gradient(state: SearchState, batch: Batch, edge_weights: EdgeWeights | None = None, draw: Draw | None = None):
        def mean_loss(values):
            variables = {"params": values.get("params", state.params), "batch_stats": state.batch_stats}
            alphas, weights = values.get("alphas", state.alphas), edge_weights
            if draw is not None:
                weights = sampler.drawn(net.space, alphas, state.decisions, draw.key, draw.level, state.sampler)
            elif weights is None:
                weights = sampler.weights(net.space, alphas, state.decisions)
            metrics, stats = forward(net, variables, weights, batch.images, batch.labels, batch.noise_key, True)
            return metrics.loss / batch.labels.shape[0], (metrics, stats)

        values = {name: getattr(state, name) for name in names}
        gradients, (metrics, stats) = jax.grad(mean_loss, has_aux=True)(values)
        return gradients, metrics, stats

    return gradient


def guarded(update: Update, name: str) -> Callable[..., tuple[Any, Metrics]]:
    """An update that stops at numbers that are not finite: `guarded(state, total, gradients, metrics, stats, ...)`.

    It returns the updated state, and the total plus the metrics of the batch. Once a loss or gradient is not finite, this
    and all later calls leave state and total as they were, except that the total's loss becomes NaN.

    An update of weights that is compiled for GPUs gets them in stacks, with their gradients and the statistics
    (`kernels.stacked`), so it must treat all numbers alike.

    Args:
      update: the update.
      name: the gradient to check, "params" or "alphas".
    """

    def guard(state, total: Metrics, gradients: dict, metrics: Metrics, stats: dict, *args):
        if name == "params":
            state, gradients, stats = kernels.stacked((state, gradients, stats), gradients["params"], stats)
        before, after = (state, total), (update(state, gradients, stats, *args), total + metrics)
        finite = jnp.isfinite(after[1].loss) & jnp.isfinite(optax.tree.norm(gradients[name]))
        state, total = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
        return kernels.unstacked(state), total.replace(loss=jnp.where(finite, total.loss, jnp.nan))

    return guard


def make_alpha_update(
    optimizer: optax.GradientTransformation, penalty: Callable[[Alphas], jax.Array] | None = None
) -> Update:
    """Alpha step: `update(state, gradients, stats, penalty_weight)` descends the loss in the alphas of open edges.

    The loss is that of the gradients, plus `penalty_weight` times `penalty(alphas)` if there is a penalty. As in the reference code, the step
    takes over BatchNorm's running statistics from the pass.
    """

    def update(state: SearchState, gradients: dict, stats: dict, penalty_weight: Any = None) -> SearchState:
        slope = gradients["alphas"]
        if penalty is not None:
            of_penalty = jax.grad(penalty)(state.alphas)
            slope = jax.tree.map(lambda loss, more: loss + penalty_weight * more, slope, of_penalty)
        updates, optimizer_state = optimizer.update(slope, state.alpha_optimizer, state.alphas)
        alphas = {
            kind: jnp.where(state.decisions.open(kind)[:, None], row + updates[kind], row)
            for kind, row in state.alphas.items()
        }
        return state.replace(alphas=alphas, alpha_optimizer=optimizer_state, batch_stats=stats)

    return update


def make_weight_update(optimizer: optax.GradientTransformation) -> Update:
    """Weight step: `update(state, gradients, stats, learning_rate)` descends the training loss in the weights.

    The state may belong to a supernet or to a discrete network.
    """

    def update(state, gradients: dict, stats: dict, learning_rate):
        updates, optimizer_state = optimizer.update(gradients["params"], state.weight_optimizer, state.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, state.params, updates)
        return state.replace(params=params, weight_optimizer=optimizer_state, batch_stats=stats)

    return update


def restrict(state: SearchState, whole: Supernet, part: Supernet, like: SearchState) -> SearchState:
    """The part of a state that a smaller supernet uses: the leaves of `like`, by name, and the rows of its groups.

    Args:
      state: a state of `whole`, or any part of one, such as gradients.
      whole: the supernet.
      part: the same supernet with fewer candidates.
      like: a state of `part`, for its structure.
    """
    leaves = dict(jax.tree_util.tree_leaves_with_path(state))

    def pick(path, _):
        names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        before, after = whole.edges_of(names), part.edges_of(names)
        return leaves[path] if before == after else leaves[path][np.searchsorted(before, after)]

    return jax.tree_util.tree_map_with_path(pick, like)

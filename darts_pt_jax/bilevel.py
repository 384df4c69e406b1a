"""Bilevel training of the supernet: weights on one half of the training set, alphas on the other (paper, equation 1)."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from darts_pt_jax import architecture
from darts_pt_jax.architecture import Alphas, Decisions
from darts_pt_jax.data import batches
from darts_pt_jax.metrics import Evaluate, Gradient, Metrics, Update
from darts_pt_jax.supernet import EdgeWeights, Supernet


@flax.struct.dataclass
class SearchState:
    """Everything that training and selection change. A checkpoint is this value.

    Attributes:
      params: the supernet's weights, named by cell and operation (`spaces.Group`).
      batch_stats: BatchNorm's running statistics.
      alphas: architecture parameters.
      weight_optimizer: state of `weight_optimizer`.
      alpha_optimizer: state of `alpha_optimizer`.
      decisions: what selection has fixed.
    """

    params: dict
    batch_stats: dict
    alphas: Alphas
    weight_optimizer: optax.OptState
    alpha_optimizer: optax.OptState
    decisions: Decisions

    @property
    def variables(self) -> dict:
        """The supernet's variables as Flax takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def weight_optimizer(
    momentum: float = 0.9, weight_decay: float = 3e-4, clip: float = 5.0
) -> optax.GradientTransformation:
    """SGD on the weights, less the learning rate: clip by global norm, then coupled decay, then momentum (DARTS, section 3.1)."""
    return optax.chain(optax.clip_by_global_norm(clip), optax.add_decayed_weights(weight_decay), optax.trace(momentum))


def alpha_optimizer(learning_rate: float = 3e-4, weight_decay: float = 1e-3) -> optax.GradientTransformation:
    """Adam on the alphas with coupled decay, betas (0.5, 0.999) (DARTS, section 3.1)."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1=0.5, b2=0.999))


def init_state(
    net: Supernet,
    key: jax.Array,
    image_shape: tuple[int, int, int],
    weights: optax.GradientTransformation,
    alphas: optax.GradientTransformation,
    alpha_scale: float = 1e-3,
) -> SearchState:
    """A fresh state for images of `image_shape` [H, W, C]."""
    weight_key, alpha_key = jax.random.split(key)
    initial_alphas = architecture.init_alphas(net.space, alpha_key, alpha_scale)
    decisions = architecture.undecided(net.space)
    mixture = architecture.edge_weights(net.space, initial_alphas, decisions)
    rngs = {"params": weight_key, "noise": weight_key}
    variables = net.init(rngs, jnp.zeros((1, *image_shape)), mixture, batch_statistics=True)
    params = variables["params"]
    return SearchState(
        params, variables["batch_stats"], initial_alphas, weights.init(params), alphas.init(initial_alphas), decisions
    )


def forward(
    net: Supernet,
    variables: dict,
    edge_weights: EdgeWeights,
    images: jax.Array,
    labels: jax.Array,
    noise_key: jax.Array,
    batch_statistics: bool,
) -> tuple[Metrics, dict]:
    """One pass over a batch: its metrics, and the running statistics it leaves behind."""
    logits, stats = _pass(net, variables, edge_weights, images, noise_key, batch_statistics)
    return _of_each(logits, labels).sum(), stats


def _pass(net, variables, edge_weights, images, noise_key, batch_statistics) -> tuple[jax.Array, dict]:
    """Logits, and the running statistics."""
    logits, updated = net.apply(
        variables, images, edge_weights, batch_statistics, mutable=["batch_stats"], rngs={"noise": noise_key}
    )
    return logits, updated["batch_stats"]


def _of_each(logits: jax.Array, labels: jax.Array) -> Metrics:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.int32)
    return Metrics(loss, correct, jnp.ones_like(correct))


def make_evaluate(net: Supernet, batch_statistics: bool, augment: bool) -> Evaluate:
    """An `Evaluate` of `Supernet`, whose batch is (`Dataset`, image indices [B], key of augmentation and noise).

    Running statistics are left alone.
    """

    def evaluate(variables: dict, edge_weights: EdgeWeights, batch) -> tuple[Metrics, Metrics]:
        dataset, indices, key = batch
        augment_key, noise_key = jax.random.split(key)
        images, labels = batches.batch(dataset, indices, augment_key if augment else None)
        logits, _ = _pass(net, variables, edge_weights, images, noise_key, batch_statistics)
        # apart, so that the sums are computed as they are without the others, to the bit
        return _of_each(logits, labels).sum(), _of_each(jax.lax.optimization_barrier(logits), labels)

    return evaluate


def make_gradient(net: Supernet, *of: str) -> Gradient:
    """The gradient of the mean loss over a batch in those of "params" and "alphas" that `of` names.

    One gradient of both serves alpha steps and weight steps with half the compilation; each alone computes less. Its
    batch is images, labels, the key of what operations draw, and, in place of the edge weights that alphas and decisions
    make, others.
    """

    def gradient(state: SearchState, images, labels, noise_key, edge_weights: EdgeWeights | None = None):
        def mean_loss(values):
            variables = {"params": values.get("params", state.params), "batch_stats": state.batch_stats}
            weights = edge_weights
            if weights is None:
                weights = architecture.edge_weights(net.space, values.get("alphas", state.alphas), state.decisions)
            metrics, stats = forward(net, variables, weights, images, labels, noise_key, True)
            return metrics.loss / labels.shape[0], (metrics, stats)

        gradients, (metrics, stats) = jax.grad(mean_loss, has_aux=True)({name: getattr(state, name) for name in of})
        return gradients, metrics, stats

    return gradient


def guarded(update: Update, of: str) -> Callable[..., tuple[Any, Metrics]]:
    """An update that stops at numbers that are not finite: `guarded(state, total, gradients, metrics, stats, ...)`.

    Besides the state it gives the total with the metrics of the batch. From the first call on whose loss or gradient
    (that named `of`) is not finite, state and total stay as they were, but for the total's loss, which is NaN.
    """

    def guard(state, total: Metrics, gradients: dict, metrics: Metrics, *args):
        before, after = (state, total), (update(state, gradients, *args), total + metrics)
        finite = jnp.isfinite(after[1].loss) & jnp.isfinite(optax.tree.norm(gradients[of]))
        state, total = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
        return state, total.replace(loss=jnp.where(finite, total.loss, jnp.nan))

    return guard


def make_alpha_update(optimizer: optax.GradientTransformation) -> Update:
    """Alpha step: `update(state, gradients, stats)` descends the validation loss in the alphas of open edges.

    As in the reference code the pass updates BatchNorm's running statistics.
    """

    def update(state: SearchState, gradients: dict, stats: dict) -> SearchState:
        updates, optimizer_state = optimizer.update(gradients["alphas"], state.alpha_optimizer, state.alphas)
        alphas = {
            kind: jnp.where(state.decisions.open(kind)[:, None], row + updates[kind], row)
            for kind, row in state.alphas.items()
        }
        return state.replace(alphas=alphas, alpha_optimizer=optimizer_state, batch_stats=stats)

    return update


def make_weight_update(optimizer: optax.GradientTransformation) -> Update:
    """Weight step: `update(state, gradients, stats, learning_rate)` descends the training loss in the weights.

    The state may be that of a supernet or of a discrete network.
    """

    def update(state, gradients: dict, stats: dict, learning_rate):
        updates, optimizer_state = optimizer.update(gradients["params"], state.weight_optimizer, state.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, state.params, updates)
        return state.replace(params=params, weight_optimizer=optimizer_state, batch_stats=stats)

    return update


def restrict(state: SearchState, whole: Supernet, part: Supernet, like: SearchState) -> SearchState:
    """What a supernet of fewer candidates has of a state: the leaves of `like`, by name, and the rows of its groups.

    `state` is of `whole`, `like` of `part`. Any part of a state will do, such as gradients.
    """
    leaves = dict(jax.tree_util.tree_leaves_with_path(state))

    def pick(path, _):
        names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        before, after = whole.edges_of(names), part.edges_of(names)
        return leaves[path] if before == after else leaves[path][np.searchsorted(before, after)]

    return jax.tree_util.tree_map_with_path(pick, like)

"""Training of a discrete network from scratch (DARTS, section 3.2 and A.2; paper, A.1.2)."""

import math
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from darts_pt_jax.metrics import Gradient, Metrics
from darts_pt_jax.network import Network


class RetrainState(flax.struct.PyTreeNode):
    """Everything that retraining changes.

    Attributes:
      params: the network's weights, with those of the auxiliary head.
      batch_stats: BatchNorm's running statistics.
      weight_optimizer: the optimiser's state.
    """

    params: dict
    batch_stats: dict
    weight_optimizer: optax.OptState

    @property
    def variables(self) -> dict:
        """The network's variables as Flax takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    net: Network, key: jax.Array, image_shape: tuple[int, int, int], optimizer: optax.GradientTransformation
) -> RetrainState:
    """A fresh state for images of `image_shape` [H, W, C]."""
    rngs = dict.fromkeys(("params", "dropout", "noise"), key)
    variables = net.init(rngs, jnp.zeros((1, *image_shape)), net.auxiliary)
    return RetrainState(variables["params"], variables.get("batch_stats", {}), optimizer.init(variables["params"]))


def make_gradient(net: Network, auxiliary_weight: float, smoothing: float) -> Gradient:
    """`gradient(state, images, labels, key, drop_path)`: the gradient of the mean loss in "params".

    The loss is the cross-entropy with label smoothing, plus `auxiliary_weight` times that of the auxiliary head. Images
    are float32 [B, H, W, C], labels int32 [B]; `key` is for drop path and for operations that draw.
    """

    def cross_entropy(logits, labels):
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
        return optax.softmax_cross_entropy(logits, targets)

    def gradient(state: RetrainState, images, labels, key, drop_path):
        rngs = dict(zip(("dropout", "noise"), jax.random.split(key), strict=True))

        def mean_loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            (logits, auxiliary), updated = net.apply(
                variables, images, True, drop_path, mutable=["batch_stats"], rngs=rngs
            )
            losses = cross_entropy(logits, labels)
            total = losses.mean()
            if auxiliary is not None:
                total += auxiliary_weight * cross_entropy(auxiliary, labels).mean()
            return total, (_metrics(losses, logits, labels), updated["batch_stats"])

        gradients, (metrics, stats) = jax.grad(mean_loss, has_aux=True)(state.params)
        return {"params": gradients}, metrics, stats

    return gradient


def make_evaluate(net: Network) -> Callable[..., Metrics]:
    """`evaluate(variables, images, labels, counted, key)`: the sums over the images of a batch that count.

    The network uses its running statistics, and no auxiliary head. Variables are "params" and "batch_stats", images
    float32 [B, H, W, C], labels int32 [B], `counted` bool [B]; `key` is for operations that draw.
    """

    def evaluate(variables: dict, images, labels, counted, key) -> Metrics:
        logits, _ = net.apply(variables, images, False, rngs={"noise": key})
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return _metrics(losses, logits, labels, counted)

    return evaluate


def _metrics(losses: jax.Array, logits: jax.Array, labels: jax.Array, counted: jax.Array | bool = True) -> Metrics:
    counted = jnp.broadcast_to(counted, labels.shape)
    correct = (counted & (logits.argmax(-1) == labels)).sum(dtype=jnp.int32)
    return Metrics(jnp.where(counted, losses, 0).sum(), correct, counted.sum(dtype=jnp.int32))


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "cosine": lambda epoch, epochs: (1 + math.cos(math.pi * epoch / epochs)) / 2,
    "exponential": lambda epoch, epochs: 0.97**epoch,
    "linear": lambda epoch, epochs: 1 - epoch / epochs,
}
"""The factor of the learning rate in an epoch, counted from 0, by name: `schedule(epoch, epochs)`."""

"""What is measured on a batch, and the types of the functions that take steps.

A batch is any pytree: only `evaluate` and `gradient` functions read it.
"""

from typing import Any, Protocol

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from darts_pt_jax.architecture import EdgeWeights


class Metrics(flax.struct.PyTreeNode):
    """Cross-entropy (float32), correct predictions (int32), images (int32): sums over images, or [B] of each image."""

    loss: jax.Array
    correct: jax.Array
    images: jax.Array

    @classmethod
    def zero(cls) -> "Metrics":
        """Sums over no images."""
        return cls(jnp.float32(0), jnp.int32(0), jnp.int32(0))

    @classmethod
    def of_each(cls, logits: jax.Array, labels: jax.Array) -> "Metrics":
        """The metrics [B] of each image, from logits [B, classes] and labels [B].

        Raises:
          AssertionError: the shapes are others.
        """
        chex.assert_rank([logits, labels], [2, 1])
        chex.assert_equal_shape_prefix([logits, labels], 1)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        correct = (logits.argmax(-1) == labels).astype(jnp.int32)
        return cls(loss, correct, jnp.ones_like(correct))

    def __add__(self, other: "Metrics") -> "Metrics":
        return jax.tree.map(jnp.add, self, other)

    def sum(self) -> "Metrics":
        """The sums over the images."""
        return jax.tree.map(lambda values: values.sum(dtype=values.dtype), self)


class Evaluate(Protocol):
    """Evaluates a supernet on one batch. Selection needs nothing else from a supernet."""

    def __call__(self, variables: Any, edge_weights: EdgeWeights, batch: Any) -> tuple[jax.Array, jax.Array]:
        """Returns logits [B, classes] and labels [B]."""


class Gradient(Protocol):
    """The gradient of the mean loss over a batch."""

    def __call__(self, state: Any, *batch: Any) -> tuple[dict, Metrics, dict]:
        """Returns gradients by name ("params", "alphas"), the batch's metrics, and BatchNorm's running statistics."""


class Update(Protocol):
    """One step of an optimiser."""

    def __call__(self, state: Any, gradients: dict, stats: dict, *schedule: Any) -> Any:
        """Returns the state after the step; `stats` are the running statistics of the pass."""

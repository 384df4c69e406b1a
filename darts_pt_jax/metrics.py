"""What is measured of a network on a batch, and the functions that measure it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Metrics:
    """Cross-entropy (float32), correct predictions (int32), images (int32): sums over images, or [B] of each."""

    loss: jax.Array
    correct: jax.Array
    images: jax.Array

    @classmethod
    def zero(cls) -> "Metrics":
        """The sums over no image."""
        return cls(jnp.float32(0), jnp.int32(0), jnp.int32(0))

    def __add__(self, other: "Metrics") -> "Metrics":
        return jax.tree.map(jnp.add, self, other)

    def sum(self) -> "Metrics":
        """The sums, of those of each image."""
        return jax.tree.map(lambda values: values.sum(dtype=values.dtype), self)


Evaluate = Callable[..., tuple[Metrics, Metrics]]
"""`evaluate(variables, edge_weights, batch)`: a supernet on one batch, whatever a batch is: the sums over it, and the
metrics [B] of each image."""


Gradient = Callable[..., tuple[dict, Metrics, dict]]
"""`gradient(state, *batch)`: gradients by name, metrics, the running statistics of the pass, whatever a batch is."""


Update = Callable[..., Any]
"""`update(state, gradients, stats, ...) -> state`."""

"""Many small arrays as few: where a kernel computes one array, XLA:GPU needs one for each, however small."""

import collections
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from darts_pt_jax import devices

MOST = 16
"""The most arrays of a stack: XLA takes long to compile kernels with more arguments."""


class Stacked(flax.struct.PyTreeNode):
    """A pytree whose arrays of the same shape and type are stacked, up to `MOST`.

    Attributes:
      arrays: the stacks, [N, ...].
      numbers: the numbers of the leaves in each stack.
      structure: the structure of the pytree.
    """

    arrays: list[jax.Array]
    numbers: tuple[tuple[int, ...], ...] = flax.struct.field(pytree_node=False)
    structure: Any = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, tree: Any) -> "Stacked":
        """Stacks the arrays of a pytree."""
        leaves, structure = jax.tree.flatten(tree)
        alike = collections.defaultdict(list)
        for number, leaf in enumerate(leaves):
            alike[leaf.shape, leaf.dtype].append(number)
        numbers = tuple(tuple(same[i : i + MOST]) for same in alike.values() for i in range(0, len(same), MOST))
        return cls([jnp.stack([leaves[n] for n in of_stack]) for of_stack in numbers], numbers, structure)

    @property
    def tree(self) -> Any:
        """The pytree."""
        numbers = [number for of_stack in self.numbers for number in of_stack]
        leaves = [leaf for array in self.arrays for leaf in jnp.unstack(array)]
        return jax.tree.unflatten(self.structure, [leaves[numbers.index(n)] for n in range(len(leaves))])


def stacked(tree: Any, *parts: Any) -> Any:
    """The tree, in which all parts with the structure of one of `parts` are `Stacked`: in programs for GPUs alone.

    Operations on single numbers are the same on both, and sums over all to rounding.
    """
    if devices.platform() != "gpu":
        return tree
    structures = {jax.tree.structure(part) for part in parts}

    def is_part(node):
        return jax.tree.structure(node) in structures

    return jax.tree.map(lambda node: Stacked.of(node) if is_part(node) else node, tree, is_leaf=is_part)


def unstacked(tree: Any) -> Any:
    """The tree that was given to `stacked`."""

    def is_stacked(node):
        return isinstance(node, Stacked)

    return jax.tree.map(lambda node: node.tree if is_stacked(node) else node, tree, is_leaf=is_stacked)

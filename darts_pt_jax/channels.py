"""The part of a state's channels that an edge mixes: what enters its candidates, and how the rest comes back.

`Supernet.mixed_channels` takes one of these values.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class AllChannels:
    """The candidates see every channel (DARTS)."""

    def count(self, channels: int) -> int:
        """Channels of the candidates on an edge of `channels`."""
        return channels

    def part(self, x: jax.Array) -> jax.Array:
        """What enters the candidates, of a state [B, H, W, C]."""
        return x

    def rejoined(self, mixed: jax.Array, x: jax.Array, weights: Sequence[jax.Array], stride: int) -> jax.Array:
        """The output of an edge, [B, H / stride, W / stride, C].

        Args:
          mixed: the sum of the candidates times their weights, with `count(C)` channels.
          x: the state that the edge leaves, [B, H, W, C].
          weights: the edge's weights, O arrays [1].
          stride: of the edge.
        """
        return mixed


@dataclasses.dataclass(frozen=True)
class PartialChannels:
    """The candidates see the first C / share channels; the others bypass them (Xu et al., PC-DARTS, ICLR 2020, 3.2).

    At stride 2 the bypass is a 2 x 2 max pool. Both parts are concatenated, and their channels shuffled in `share`
    groups, so that the next edge mixes others. An edge whose weights are all 0 is removed: it passes nothing.

    Attributes:
      share: K; the channels of every cell must be a multiple of it.
    """

    share: int

    def count(self, channels: int) -> int:
        """As `AllChannels.count`.

        Raises:
          ValueError: `share` does not divide `channels`.
        """
        if self.share < 1 or channels % self.share:
            raise ValueError(f"partial channels: got {channels} channels, expected a multiple of share {self.share}")
        return channels // self.share

    def part(self, x: jax.Array) -> jax.Array:
        """As `AllChannels.part`."""
        return x[..., : self.count(x.shape[-1])]

    def rejoined(self, mixed: jax.Array, x: jax.Array, weights: Sequence[jax.Array], stride: int) -> jax.Array:
        """As `AllChannels.rejoined`."""
        rest = x[..., self.count(x.shape[-1]) :]
        rest = rest if stride == 1 else _halved(rest)
        rest = jnp.where((jnp.concatenate(weights) != 0).any(), rest, 0)
        return _shuffled(jnp.concatenate([mixed, rest.astype(mixed.dtype)], -1), self.share)


MixedChannels = AllChannels | PartialChannels


def _halved(x: jax.Array) -> jax.Array:
    """2 x 2 max pooling of [B, H, W, C]; an odd height or width is rounded up."""
    bottom, right = x.shape[1] % 2, x.shape[2] % 2
    x = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), constant_values=-jnp.inf)
    return functools.reduce(jnp.maximum, (x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)))


def _shuffled(x: jax.Array, groups: int) -> jax.Array:
    """The channels, by turns from each of so many groups."""
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)

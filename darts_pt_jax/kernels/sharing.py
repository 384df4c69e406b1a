"""Identities that tell XLA:CPU where to add up cotangents."""

import functools

import jax
import jax.numpy as jnp

from darts_pt_jax.kernels.platforms import apart_on_cpu


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def share(x: jax.Array, count: int) -> jax.Array:
    """`count` copies [count, ...] of an array [...]. (XLA:CPU sums over a first axis slowly, and adds arrays fast.)"""
    return jnp.broadcast_to(x, (count, *x.shape))


def _share_forward(x, count):
    return jnp.broadcast_to(x, (count, *x.shape)), None


def _share_backward(count, _, g):
    return (functools.reduce(jnp.add, [part[0] for part in jax.lax.split(g, (1,) * count)]),)


share.defvjp(_share_forward, _share_backward)


@jax.custom_vjp
def meeting_point(x: jax.Array) -> jax.Array:
    """The array itself. Cotangents that meet here are added once, not again by each of their users."""
    return x


@apart_on_cpu()
def _identity(x):
    return x


meeting_point.defvjp(lambda x: (x, None), lambda _, g: (_identity(g),))

"""DARTS: the softmax of the alphas everywhere (DARTS, equation 2), with alphas that are trained or not."""

from darts_pt_jax.samplers.base import Sampler


def darts() -> Sampler:
    """The softmax of the alphas."""
    return Sampler()


def fixed() -> Sampler:
    """The softmax of alphas that are never trained (paper, section 6.3)."""
    return Sampler().at_rest()

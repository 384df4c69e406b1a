"""DARTS: the softmax of the alphas, in training and elsewhere (DARTS, equation 2); and the same with alphas at rest."""

from darts_pt_jax.samplers.base import Sampler


def darts() -> Sampler:
    """The softmax of the alphas."""
    return Sampler()


def fixed() -> Sampler:
    """The softmax of alphas that are never trained (paper, section 6.3)."""
    return Sampler().at_rest()

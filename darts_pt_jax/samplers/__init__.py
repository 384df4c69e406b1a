"""How alphas become the edge weights of a step, one file for each family of samplers; `base.Sampler` defines a sampler.

A row of `SAMPLERS` is a factory. Its parameters are keys of a config's section `search`, such as `search.epsilon`.
"""

from collections.abc import Callable

from darts_pt_jax.samplers.base import Sampler
from darts_pt_jax.samplers.darts import darts, fixed
from darts_pt_jax.samplers.sdarts import sdarts_adv, sdarts_rs, sdarts_rs_gaussian

__all__ = ["SAMPLERS", "Sampler"]

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "darts": darts,
    "fixed": fixed,
    "sdarts_rs": sdarts_rs,
    "sdarts_rs_gaussian": sdarts_rs_gaussian,
    "sdarts_adv": sdarts_adv,
}
"""Factories of samplers by the value of `search.sampler`."""

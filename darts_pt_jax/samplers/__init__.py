"""How alphas become the edge weights of a step, one file for each family of samplers; `base.Sampler` defines a sampler.

A row of `SAMPLERS` is a factory. Its parameters are keys of a config's section `search`, such as `search.epsilon`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from darts_pt_jax.samplers.base import Sampler
from darts_pt_jax.samplers.darts import darts, fixed
from darts_pt_jax.samplers.drnas import drnas
from darts_pt_jax.samplers.fairdarts import fairdarts
from darts_pt_jax.samplers.gumbel import gdas, snas
from darts_pt_jax.samplers.pc_darts import pc_darts
from darts_pt_jax.samplers.sdarts import sdarts_adv, sdarts_rs, sdarts_rs_gaussian

__all__ = ["SAMPLERS", "Sampler", "make_sampler"]

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "darts": darts,
    "fixed": fixed,
    "sdarts_rs": sdarts_rs,
    "sdarts_rs_gaussian": sdarts_rs_gaussian,
    "sdarts_adv": sdarts_adv,
    "drnas": drnas,
    "snas": snas,
    "gdas": gdas,
    "pc_darts": pc_darts,
    "fairdarts": fairdarts,
}
"""Factories of samplers by the value of `search.sampler`."""


def make_sampler(name: str, options: Mapping[str, Any], learns: bool = True) -> Sampler:
    """A sampler of the table.

    Args:
      name: its row.
      options: values by name, from which its factory takes its parameters; the others are ignored.
      learns: whether the alphas may be trained.
    """
    factory = SAMPLERS[name]
    sampler = factory(**{parameter: options[parameter] for parameter in inspect.signature(factory).parameters})
    return sampler if learns else sampler.at_rest()

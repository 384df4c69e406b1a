"""Differentiable architecture search with perturbation-based architecture selection, in JAX and Flax.

What a script needs is here by name, and loaded when it is first asked for: `import darts_pt_jax` imports no jax.

Sources that the docstrings name:

- the paper: Wang et al., Rethinking Architecture Selection in Differentiable NAS, ICLR 2021; the reference code is
  github.com/ruocwang/darts-pt at commit 4ec3149.
- DARTS: Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019.
- RobustDARTS: Zela et al., Understanding and Robustifying Differentiable Architecture Search, ICLR 2020.
- NAS-Bench-201: Dong, Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts_pt_jax.architecture import Decisions
    from darts_pt_jax.bilevel import (
        Batch,
        SearchState,
        alpha_optimizer,
        init_state,
        make_alpha_update,
        make_evaluate,
        make_gradient,
        make_weight_update,
        weight_optimizer,
    )
    from darts_pt_jax.data.batches import Dataset
    from darts_pt_jax.genotype import Genotype
    from darts_pt_jax.interop.export import TrainedNetwork
    from darts_pt_jax.metrics import Metrics
    from darts_pt_jax.network import Network
    from darts_pt_jax.ops import OPERATIONS
    from darts_pt_jax.samplers import SAMPLERS, Sampler
    from darts_pt_jax.selection.criteria import CRITERIA
    from darts_pt_jax.selection.methods import METHODS
    from darts_pt_jax.selection.perturbation import select
    from darts_pt_jax.selection.schedule import decision_points
    from darts_pt_jax.selection.strategies import STRATEGIES
    from darts_pt_jax.spaces import SPACES, SearchSpace, dag
    from darts_pt_jax.supernet import Supernet

__version__ = "0.2.0"

_MODULES = {
    "spaces": ("SPACES", "SearchSpace", "dag"),
    "ops": ("OPERATIONS",),
    "supernet": ("Supernet",),
    "data.batches": ("Dataset",),
    "metrics": ("Metrics",),
    "bilevel": (
        "Batch", "SearchState", "alpha_optimizer", "init_state", "make_alpha_update", "make_evaluate", "make_gradient",
        "make_weight_update", "weight_optimizer",
    ),
    "samplers": ("SAMPLERS", "Sampler"),
    "selection.criteria": ("CRITERIA",),
    "selection.methods": ("METHODS",),
    "selection.strategies": ("STRATEGIES",),
    "selection.schedule": ("decision_points",),
    "selection.perturbation": ("select",),
    "architecture": ("Decisions",),
    "genotype": ("Genotype",),
    "network": ("Network",),
    "interop.export": ("TrainedNetwork",),
}  # fmt: skip
"""The modules that define the public names."""

_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULE_OF]

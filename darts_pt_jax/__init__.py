"""Differentiable architecture search with perturbation-based architecture selection, in JAX and Flax.

Sources that the docstrings name:

- the paper: Wang et al., Rethinking Architecture Selection in Differentiable NAS, ICLR 2021; the reference code is
  github.com/ruocwang/darts-pt at commit 4ec3149.
- DARTS: Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019.
- RobustDARTS: Zela et al., Understanding and Robustifying Differentiable Architecture Search, ICLR 2020.
- NAS-Bench-201: Dong, Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020.
"""

__version__ = "0.1.0"

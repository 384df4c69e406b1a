"""The curvature of the validation loss in the alphas, which predicts that a search degenerates (RobustDARTS, section 4)."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from darts_pt_jax.architecture import Alphas
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.metrics import Gradient


def make_product(gradient: Gradient):
    """`product(state, direction, batch)`: the exact Hessian in the alphas times a direction, by forward over reverse.

    Direction and product are [E, O] by cell kind, as the alphas. `gradient` is that of the alphas.
    """

    def product(state: SearchState, direction: Alphas, batch) -> Alphas:
        along = lambda alphas: gradient(state.replace(alphas=alphas), *batch)[0]["alphas"]  # noqa: E731
        return jax.jvp(along, (state.alphas,), (direction,))[1]

    return product


def dominant_eigenvalue(product: Callable[[Alphas], Alphas], like: Alphas, tolerance: float = 1e-3) -> float | None:
    """The largest eigenvalue of a symmetric matrix, by Lanczos' method; None if the method does not converge.

    Args:
      product: multiplies the matrix and a vector.
      like: a vector, which gives the structure and the shapes.
      tolerance: of the eigenvalue, relative.

    Raises:
      FloatingPointError: a product is not finite.
    """
    flat, unravel = ravel_pytree(like)

    def matvec(vector: np.ndarray) -> np.ndarray:
        direction: Any = np.asarray(vector, flat.dtype).ravel()
        image = np.asarray(ravel_pytree(product(unravel(direction)))[0], np.float64)
        if not np.isfinite(image).all():
            raise FloatingPointError("the Hessian in the alphas is not finite: lower search.learning_rate")
        return image

    start = np.random.default_rng(0).standard_normal(flat.size)
    operator = LinearOperator((flat.size, flat.size), matvec, dtype=np.float64)
    if not matvec(start).any():
        return 0.0
    try:
        return float(eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False)[0])
    except ArpackNoConvergence:
        return None

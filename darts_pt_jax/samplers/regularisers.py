"""Regularisers of the alphas: what an alpha step adds to the validation loss, besides the optimiser's weight decay."""

from collections.abc import Callable

import jax

from darts_pt_jax.architecture import Alphas
from darts_pt_jax.spaces import SearchSpace

Regulariser = Callable[[SearchSpace, Alphas], jax.Array]
"""`regulariser(space, alphas)` gives a float32 scalar for alphas [E, O] by cell kind."""

REGULARISERS: dict[str, Regulariser | None] = {"none": None}
"""Regularisers by the value of `search.alpha_regulariser`; `search.alpha_regulariser_weight` multiplies them."""

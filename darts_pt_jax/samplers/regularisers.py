"""Penalties on the alphas."""

REGULARISERS = dict.fromkeys(("none",))

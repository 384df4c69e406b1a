"""Lets a checkout say `python -m experiments.NAME`. The commands are in darts_pt_jax/experiments."""

from darts_pt_jax.experiments import __path__  # noqa: F401

"""In a checkout, `python -m experiments.NAME` carries out the command in darts_pt_jax/experiments/NAME.py."""

import darts_pt_jax.experiments  # noqa: F401  # tells a Python without the packages what it lacks

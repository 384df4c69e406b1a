"""`python -m experiments.sweep`: see darts_pt_jax/experiments/sweep.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.sweep", run_name="__main__", alter_sys=True)

"""`python -m experiments.prepare`: see darts_pt_jax/experiments/prepare.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.prepare", run_name="__main__", alter_sys=True)

"""`python -m experiments.main`: see darts_pt_jax/experiments/main.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.main", run_name="__main__", alter_sys=True)

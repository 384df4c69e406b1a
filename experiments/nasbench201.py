"""`python -m experiments.nasbench201`: see darts_pt_jax/experiments/nasbench201.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.nasbench201", run_name="__main__", alter_sys=True)

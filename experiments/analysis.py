"""`python -m experiments.analysis`: see darts_pt_jax/experiments/analysis."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.analysis", run_name="__main__", alter_sys=True)

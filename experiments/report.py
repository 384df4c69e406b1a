"""`python -m experiments.report`: see darts_pt_jax/experiments/report.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.report", run_name="__main__", alter_sys=True)

"""`python -m experiments.export`: see darts_pt_jax/experiments/export.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.export", run_name="__main__", alter_sys=True)

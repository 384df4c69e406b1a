"""`python -m experiments.cite`: see darts_pt_jax/experiments/cite.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.cite", run_name="__main__", alter_sys=True)

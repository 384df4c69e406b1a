"""`python -m experiments.predict`: see darts_pt_jax/experiments/predict.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.predict", run_name="__main__", alter_sys=True)

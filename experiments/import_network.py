"""`python -m experiments.import_network`: see darts_pt_jax/experiments/import_network.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("darts_pt_jax.experiments.import_network", run_name="__main__", alter_sys=True)

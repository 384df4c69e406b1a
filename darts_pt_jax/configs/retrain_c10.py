"""Retrains an architecture on CIFAR-10 as the paper does: 36 channels, 20 cells, 600 epochs.

    python -m experiments.main --config=configs/retrain_c10.py --config.genotype=darts_pt_s5_3

genotype is a published name, a file such as a run's genotype.json, or the text itself. Made for an accelerator.
"""

from darts_pt_jax.configs import darts_c10


def get_config():
    config = darts_c10.get_config()
    config.stages = "retrain,report"
    config.genotype = "darts_pt_s5_3"
    return config

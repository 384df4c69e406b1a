"""Retrains an architecture on 5,000 images of CIFAR-10 averaged to 16x16: 5 cells of 16 channels, made for two CPU cores.

    python -m experiments.main --config=configs/retrain_c10_small.py --config.genotype=FILE

It is too short to need regularisation against overfitting: no drop path, cutout or auxiliary head.
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.stages = "retrain,report"
    config.genotype = "darts_pt_s5_3"
    config.data.path = "data/cifar10.npz"  # python -m experiments.prepare cifar10
    config.data.size = 16
    config.data.examples = 5000
    config.update_from_flattened_dict(common.RETRAIN_SMALL)
    return config

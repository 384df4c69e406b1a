"""DARTS on S2 (skip_connect or sep_conv_3x3 on every edge), CIFAR-10 averaged to 16x16: made for two CPU cores.

    python -m experiments.main --config=configs/s2_c10_small.py

It keeps intermediate supernets and records the curvature, for the analyses (`python -m experiments.analysis`).
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.data.path = "data/cifar10.npz"  # python -m experiments.prepare cifar10
    config.space = "s2"
    config.data.size = 16
    config.data.examples = 5000
    config.supernet.cells = 5
    config.supernet.channels = 8
    config.update_from_flattened_dict(common.RETRAIN_SMALL)
    config.search.epochs = 30
    config.search.sampling = "epoch"
    config.select.images = 1024
    config.select.interval = 1
    config.curvature.every = 3
    config.checkpoint.snapshots = (10, 20)
    return config

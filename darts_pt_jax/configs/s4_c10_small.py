"""DARTS-PT on S4 (noise or sep_conv_3x3 on every edge), CIFAR-10 averaged to 16x16: made for two CPU cores.

python -m experiments.main --config=configs/s4_c10_small.py
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.data.path = "data/cifar10.npz"  # python -m experiments.prepare cifar10
    config.space = "s4"
    config.data.size = 16
    config.data.examples = 10000
    config.supernet.cells = 5
    config.supernet.channels = 8
    config.update_from_flattened_dict(common.RETRAIN_SMALL)
    config.search.epochs = 12
    config.select.images = 2048
    config.select.interval = 1
    return config

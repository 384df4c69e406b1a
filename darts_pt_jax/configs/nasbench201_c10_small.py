"""DARTS-PT with fixed alphas on NAS-Bench-201, CIFAR-10 averaged to 16x16: made for two CPU cores.

python -m experiments.main --config=configs/nasbench201_c10_small.py
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.data.path = "data/cifar10.npz"  # python -m experiments.prepare cifar10
    config.space = "nasbench201"
    config.data.size = 16
    config.supernet.cells = 1
    config.update_from_flattened_dict(common.RETRAIN_NASBENCH201)
    config.search.epochs = 10
    config.search.alpha = "fixed"
    config.select.images = 5000
    config.select.interval = 1
    config.eval.images = 5000
    return config
